"""A block under a limit of the drain: it has its time, and at the stop what such a block gets then."""

from __future__ import annotations

import asyncio

import pytest
from eventually import DEADLINE_SECONDS

from service.draining import Drain

NEVER = 3600.0


async def waits_for_ever(drain: Drain, seconds: float | None, at_stop: float, began: asyncio.Event) -> None:
    async with drain.limit(seconds, at_stop=at_stop):
        began.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("seconds", [None, NEVER])
async def test_what_waits_at_the_stop_waits_no_longer(seconds: float | None):
    drain, began = Drain(), asyncio.Event()
    waiting = asyncio.create_task(waits_for_ever(drain, seconds, 0.0, began))
    await began.wait()
    assert not drain.has_started
    drain.start()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await waiting
    assert drain.has_started


async def test_what_begins_to_wait_after_the_stop_does_not_wait():
    drain = Drain()
    drain.start()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await waits_for_ever(drain, NEVER, 0.0, asyncio.Event())


async def test_what_is_there_already_is_taken_after_the_stop_too():
    drain, there = Drain(), asyncio.Event()
    there.set()
    drain.start()
    async with drain.limit(NEVER) as limit:
        await there.wait()

    assert not limit.is_over


async def test_what_gets_time_at_the_stop_has_it():
    drain, began, over = Drain(), asyncio.Event(), asyncio.Event()

    async def work() -> str:
        async with drain.limit(None, at_stop=NEVER):
            began.set()
            await over.wait()
        return "done"

    working = asyncio.create_task(work())
    await began.wait()
    drain.start()
    await asyncio.sleep(0)
    over.set()

    assert await working == "done"


async def test_the_stop_gives_nobody_more_time():
    drain, began = Drain(), asyncio.Event()
    waiting = asyncio.create_task(waits_for_ever(drain, 0.01, NEVER, began))
    await began.wait()
    drain.start()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(DEADLINE_SECONDS):
            await waiting


async def test_a_second_request_to_stop_changes_nothing():
    drain = Drain()
    drain.start()
    async with drain.limit(None, at_stop=NEVER) as limit:
        drain.start()
        await asyncio.sleep(0)

    assert not limit.is_over


async def test_a_wait_that_has_ended_is_forgotten():
    drain = Drain()
    async with drain.limit(NEVER):
        pass

    assert drain._limits == set()
