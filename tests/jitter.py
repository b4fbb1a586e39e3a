"""A pytest plugin that delays at random: tests must pass in whatever order, and however slowly, things happen.

Off unless `TEST_JITTER` is set: a number is the seed, `random` draws one; the head of the report shows it. Then steps
of tasks, statements, commands to Redis and the whole loop come later than they would. What asyncio promises stays:
steps keep their order among themselves, as the callbacks of transports do, and nothing is lost or done twice. Each test
has dice of its own, so that one test alone is delayed as it is among all, as far as its own order is the same.
"""

from __future__ import annotations

import asyncio
import functools
import os
import random
import secrets
import time
from collections.abc import Callable
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary

import asyncpg
import pytest
from redis.asyncio.connection import AbstractConnection

WANTED = os.environ.get("TEST_JITTER", "")
SEED = secrets.randbelow(1_000_000) if WANTED == "random" else WANTED

TICK_SECONDS = 1e-6
DELAY_SECONDS_MAX = 0.02
"""Longer than any statement or hop takes here, so that each may overtake another."""
TEST_SECONDS_MAX = 2.0
"""A test is delayed no longer than this in all, and more rarely as it goes on: else one of a thousand statements would
take minutes."""

STEPS_DELAYED, STATEMENTS_DELAYED, COMMANDS_DELAYED, STALLS = 0.02, 0.3, 0.1, 0.002
"""How often at first: of the steps of tasks, of statements (before and after each), of commands to Redis, and of all
callbacks of the loop."""


class Dice:
    """Says how long the next thing is delayed, within what a test may be delayed in all."""

    def __init__(self) -> None:
        self.begin("")

    def begin(self, test: str, *, seconds: float = TEST_SECONDS_MAX) -> None:
        """A new test, with dice and time of its own."""
        self._random = random.Random(f"{SEED} {test}")  # noqa: S311 - no secret
        self._seconds_left = seconds

    def delay(self, share: float) -> float:
        """In `share` of all cases some seconds, else none; the more rarely, the less time is left."""
        if self._random.random() >= share * self._seconds_left / TEST_SECONDS_MAX:
            return 0.0
        seconds = self._random.uniform(0, min(DELAY_SECONDS_MAX, self._seconds_left))
        self._seconds_left -= seconds
        return seconds


DICE = Dice()


def pytest_configure() -> None:
    if not WANTED:
        return
    asyncio.BaseEventLoop.call_soon = late(asyncio.BaseEventLoop.call_soon)  # type: ignore[method-assign]
    for method in ("execute", "fetch", "fetchrow", "fetchval"):
        setattr(asyncpg.Connection, method, surrounded(getattr(asyncpg.Connection, method)))
    AbstractConnection.send_packed_command = preceded(AbstractConnection.send_packed_command)  # type: ignore[method-assign]


def pytest_report_header() -> list[str]:
    return [f"jitter: TEST_JITTER={SEED}"] if WANTED else []


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # Hypothesis needs the same example to do the same each time, and brings orders of its own.
    DICE.begin(item.nodeid, seconds=0 if hasattr(getattr(item, "obj", None), "hypothesis") else TEST_SECONDS_MAX)


def late(call_soon: Callable[..., asyncio.Handle]) -> Callable[..., asyncio.Handle]:
    """Steps of tasks come late now and then, those behind them too; now and then the whole loop stands still."""
    ends = WeakKeyDictionary[asyncio.BaseEventLoop, float]()

    @functools.wraps(call_soon)
    def delayed(
        loop: asyncio.BaseEventLoop, callback: Callable[..., Any], *arguments: Any, context: Context | None = None
    ) -> asyncio.Handle:
        stall = DICE.delay(STALLS)
        if stall:
            time.sleep(stall)
        if not (isinstance(getattr(callback, "__self__", None), asyncio.Task) and loop.is_running()):
            return call_soon(loop, callback, *arguments, context=context)
        ends[loop] = max(loop.time() + DICE.delay(STEPS_DELAYED), ends.get(loop, 0.0) + TICK_SECONDS)
        return loop.call_at(ends[loop], callback, *arguments, context=context)

    return delayed


def surrounded(run: Callable[..., Any]) -> Callable[..., Any]:
    """A statement takes time on its way there, and its answer on its way back."""

    @functools.wraps(run)
    async def delayed(*arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(DICE.delay(STATEMENTS_DELAYED))
        answer = await run(*arguments, **named)
        await asyncio.sleep(DICE.delay(STATEMENTS_DELAYED))
        return answer

    return delayed


def preceded(send: Callable[..., Any]) -> Callable[..., Any]:
    """A command takes time on its way to Redis. (A wait behind it could leave an answer unread in a connection.)"""

    @functools.wraps(send)
    async def delayed(*arguments: Any, **named: Any) -> Any:
        await asyncio.sleep(DICE.delay(COMMANDS_DELAYED))
        return await send(*arguments, **named)

    return delayed
