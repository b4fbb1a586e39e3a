# Shortcuts for run.py, which makes .venv and does the work. Another Python: make up PYTHON=python3.13
PYTHON ?= python3

.DEFAULT_GOAL := help
.PHONY: help up test bench chaos planted lint types check limits audit lock lock-check clean

help: ## Show what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 20

up: ## Start everything on this machine, until Ctrl-C
	@$(PYTHON) run.py up

test: ## Run all tests; some of them: make test ARGS="-k append"
	@$(PYTHON) run.py test $(ARGS)

bench: ## Measure beside bare endpoints; one operation: make bench ARGS="--only append"
	@$(PYTHON) run.py bench $(ARGS)

chaos: ## Kill every part under load and prove what holds; one seed: make chaos ARGS="--seed 7"
	@$(PYTHON) run.py chaos $(ARGS)

planted: ## Plant known bugs one by one and tell whether tests catch them; one: make planted ARGS=is-global-only
	@$(PYTHON) run.py planted $(ARGS)

lint: ## Check style and layout
	@$(PYTHON) run.py lint

types: ## Check types
	@$(PYTHON) run.py types

check: ## Run tests, style, types and locks: what a change must pass, but for .ci/run's minute of chaos
	@$(PYTHON) run.py check

limits: ## Write docs/limits.md anew, from the numbers in the code
	@$(PYTHON) run.py limits

audit: ## List known advisories of the locked versions; asks the advisory service
	@$(PYTHON) run.py audit

lock: ## Write the locks of the requirements anew
	@$(PYTHON) run.py lock

lock-check: ## Check that the locks fit pyproject.toml
	@$(PYTHON) run.py lock-check

clean: ## Remove .venv and caches; what is stored in .holdfast stays
	@$(PYTHON) run.py clean
