"""How pytest-xdist shares the tests out among its processes: by file, and the longest first.

Each process has servers of its own. What several files share for longer than that, the processes of an end-to-end
test, is started once for each group of files.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

END_TO_END = "tests/e2e/"
STACKS = 2
"""How many of the processes start all of Holdfast, at 15 s of CPU each."""

FIRST = ("e2e/", "test_documents", "handlers/test_schemathesis", "cache/", "inspection/", "workers/", "embedded/")
"""They wait for processes, leases and outages. Begun last, they would run alone at the end."""


class ByGroup(LoadScopeScheduling):
    """Gives the tests of a group to one process, one after the other."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0])


def group_of(file: str) -> str:
    if not file.startswith(END_TO_END):
        return file
    return f"stack {zlib.crc32(file.encode()) % STACKS}"


def longest_first(items: Iterable[pytest.Item]) -> list[pytest.Item]:
    """The same tests, those of slow folders before the others; the order within a file stays."""
    return sorted(items, key=place_of)


def place_of(item: pytest.Item) -> int:
    path = PurePath(item.nodeid.partition("::")[0]).as_posix().removeprefix("tests/")
    return next((place for place, start in enumerate(FIRST) if path.startswith(start)), len(FIRST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByGroup | None:
    return ByGroup(config, log) if config.getoption("dist") == "loadscope" else None
