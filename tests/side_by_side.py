"""How pytest-xdist shares the tests out among its processes: file by file, and the longest first.

Each process has servers of its own. The end-to-end tests share all of Holdfast in two groups, which run beside each
other.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

FIRST = ("e2e/", "test_documents", "handlers/test_schemathesis", "cache/", "inspection/", "workers/", "embedded/")
"""They wait for processes and outages. Begun last, they would run alone at the end."""

FAST = ("domain/", "chaos/", "planted/", "test_architecture", "test_settings", "test_compose", "test_run_py")
"""Where tests need neither a server nor a process of ours: `pytest -m fast`."""

STACKS = 2
"""A third one would cost more CPU for its start than its waits could hide, on two cores."""

END_TO_END = {
    f"tests/e2e/{path.name}": f"stack {number % STACKS}"
    for number, path in enumerate(sorted(Path(__file__).parent.glob("e2e/test_*.py")))
}


class ByFile(LoadScopeScheduling):
    """Gives the tests of a file to one process, and all end-to-end tests of a stack to one process."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return END_TO_END.get(file, file)


def in_order(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The same tests, those of slow folders before the others; the order within a file stays."""
    return sorted(items, key=lambda item: next((n for n, start in enumerate(FIRST) if is_in(item, start)), len(FIRST)))


def mark_fast(items: Iterable[pytest.Item]) -> None:
    for item in items:
        if any(is_in(item, start) for start in FAST):
            item.add_marker(pytest.mark.fast)


def is_in(item: pytest.Item, start: str) -> bool:
    return item.nodeid.removeprefix("tests/").startswith(start)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    return ByFile(config, log) if config.getoption("dist") == "loadscope" else None
