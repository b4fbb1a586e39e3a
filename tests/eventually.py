"""Waits of tests for what must come. There is one deadline: it only ends what hangs."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

DEADLINE_SECONDS = 60.0
"""For what takes one or two seconds on a quiet machine, or 15 s where a lease must run out."""
POLL_SECONDS = 0.01
PROCESS_POLL_SECONDS = 0.05
"""A look at a process or its database opens a connection: some 10 ms of CPU, which the awaited process needs."""


def wait_until(condition: Callable[[], object], what: str = "it holds", seconds: float = DEADLINE_SECONDS) -> None:
    """Wait for something that must come; fails with `what` when it does not come in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(PROCESS_POLL_SECONDS)


async def until(condition: Callable[[], object | Awaitable[object]]) -> None:
    """The same in a loop, for what has no event of its own; the condition may be a coroutine function."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await holds(condition):  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(POLL_SECONDS)


async def holds(condition: Callable[[], object | Awaitable[object]]) -> object:
    found = condition()
    return await found if inspect.isawaitable(found) else found
