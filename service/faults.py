"""Points at which a process ends itself on purpose, so that tests reach every crash window. Never set in production.

`HOLDFAST_FAULT=after_commit:3` ends the process at the third passing of that point, as `kill -9` would: nothing is
flushed, nobody is told, no block is left in order. Where the variable is unset, a point costs one look at a name.
"""

from __future__ import annotations

import os
from enum import StrEnum

from service.log import get_logger

KILLED = 137
"""How shells report a process that `kill -9` ended."""

LOG = get_logger("fault")


class Point(StrEnum):
    """Where the order of two things matters, because between them a process may end."""

    BEFORE_COMMIT = "before_commit"
    """A transaction has changed something, and is not committed."""

    AFTER_COMMIT = "after_commit"
    """It is committed; nobody knows yet: no answer is sent, nobody woken, no bell rung."""

    AFTER_PUSH = "after_push"
    """Something has left for somebody else, and what comes next is not done: Redis took a bell; or the receiver of a

    webhook has answered, and no row says so. The relay pushes nothing while its transaction is open: what follows from
    an event are rows, committed together with its leaving the outbox, and only then bells are rung.
    """

    MID_UPLOAD = "mid_upload"
    """Bytes of a file are in the store, and no row refers to them: passed with every block after the second, and once

    more when all of it is there.
    """


class _Armed:
    """The point at which this process will end, and how often it may be passed until then."""

    def __init__(self, fault: str) -> None:
        name, _, passing = fault.partition(":")
        self.point = Point(name)
        self.left = int(passing or 1)


_armed: _Armed | None = None


def arm(fault: str | None) -> None:
    """Have this process end at `point` or `point:n`, as `HOLDFAST_FAULT` says; None: never.

    Raises:
        ValueError: there is no such point.
    """
    global _armed  # noqa: PLW0603 - a process ends as a whole, so there is one for the process
    _armed = None if fault is None else _Armed(fault)
    if _armed is not None:
        LOG.warning("fault.armed", point=_armed.point, passing=_armed.left)


def is_armed() -> bool:
    """Whether this process will end at a point."""
    return _armed is not None


def reach(point: Point) -> None:
    """Pass a point, or end there."""
    if _armed is None or _armed.point is not point:
        return
    _armed.left -= 1
    if not _armed.left:
        LOG.warning("fault.reached", point=point)
        os._exit(KILLED)
