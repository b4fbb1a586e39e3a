"""Benchmarks against raw yardsticks in the same run: `make bench`, or `.venv/bin/python -m bench`."""
