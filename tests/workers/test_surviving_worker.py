"""The worker goes on through cut connections and a Redis that comes and goes, and stops without loss."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from eventually import DEADLINE_SECONDS, until
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from workshop import POLL_SECONDS, SLOTS, Workshop, has, idle, url_of, workshop

from service.embedded.servers import EmbeddedServers

JOBS = 200
KILLS_MIN = 100
KILL_SECONDS = 0.03
KILL_SECONDS_MAX = 1.0


async def cut_connections(url: str, stop: asyncio.Event, progress: Callable[[], object]) -> int:
    """Cut all other clients off, again and again; how many were cut.

    While nothing gets through in between, the pauses grow: on a slow machine nobody would ever get to Redis.
    """
    killer: Redis = Redis.from_url(url)
    killed, pause = 0, KILL_SECONDS
    try:
        while not (stop.is_set() and killed >= KILLS_MIN):
            before = progress()
            killed += await killer.client_kill_filter(_type="normal", skipme=True)
            await asyncio.sleep(pause)
            pause = KILL_SECONDS if progress() != before else min(2 * pause, KILL_SECONDS_MAX)
    finally:
        await killer.aclose()
    return killed


async def test_through_a_storm_of_cut_connections_every_job_is_done_and_no_slot_leaked(valkey: EmbeddedServers):
    done: set[int] = set()
    most_at_once = running = 0

    async def work(_: dict[str, Any], number: int) -> None:
        nonlocal running, most_at_once
        running += 1
        most_at_once = max(most_at_once, running)
        await asyncio.sleep(POLL_SECONDS)
        running -= 1
        done.add(number)

    async def all_done() -> bool:
        return len(done) == JOBS and await shop.queued() == 0

    async with workshop(valkey, work=work) as shop:
        enqueued = asyncio.Event()
        taken = 0
        storm = asyncio.create_task(cut_connections(url_of(valkey), enqueued, lambda: (taken, len(done))))
        for number in range(JOBS):
            await shop.enqueue("work", number)
            taken += 1
            await asyncio.sleep(POLL_SECONDS)
        enqueued.set()
        assert await storm >= KILLS_MIN
        await until(all_done)
        await until(idle(shop))

        await shop.assert_no_slot_is_leaked()
        assert most_at_once <= SLOTS
        await assert_all_slots_work(shop, done)


async def assert_all_slots_work(shop: Workshop, done: set[int]) -> None:
    for number in range(JOBS, JOBS + SLOTS * 2):
        await shop.enqueue("work", number)

    async def more_done() -> bool:
        return len(done) == JOBS + SLOTS * 2

    await until(more_done)


async def test_a_connection_that_breaks_as_a_job_begins_ends_no_worker_and_takes_no_slot(
    valkey: EmbeddedServers, monkeypatch: pytest.MonkeyPatch
):
    done = asyncio.Event()

    async def work(_: dict[str, Any]) -> None:
        done.set()

    async with workshop(valkey, work=work) as shop:
        whole = shop.worker.pool.pipeline

        def breaks_once(*arguments: Any, **named: Any) -> Any:
            shop.worker.pool.pipeline = whole
            raise RedisConnectionError

        monkeypatch.setattr(shop.worker.pool, "pipeline", breaks_once)
        await shop.enqueue("work")
        assert shop.worker.main_task is not None
        waiting = asyncio.create_task(done.wait())
        await asyncio.wait([shop.worker.main_task, waiting], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        assert not shop.worker.main_task.done(), "the worker ended with its connection"

        await shop.assert_no_slot_is_leaked()


async def test_a_redis_that_was_away_is_found_again_by_the_same_worker(valkey: EmbeddedServers):
    done: list[int] = []

    async def work(_: dict[str, Any], number: int) -> None:
        done.append(number)

    async def troubled() -> bool:
        return shop.worker._in_trouble

    async with workshop(valkey, work=work) as shop:
        for round_ in range(2):
            await shop.enqueue("work", round_)
            await until(has(done, round_))
            valkey.stop_redis()
            try:
                await until(troubled)
            finally:
                valkey.start_redis()
        await shop.enqueue("work", 2)
        await until(has(done, 2))

        await until(idle(shop))
        await shop.assert_no_slot_is_leaked()


async def test_a_job_that_runs_while_redis_goes_away_runs_to_its_end(valkey: EmbeddedServers):
    started, go_on, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(_: dict[str, Any]) -> None:
        started.set()
        await go_on.wait()
        finished.set()

    async with workshop(valkey, work=work) as shop:
        await shop.enqueue("work")
        await asyncio.wait_for(started.wait(), DEADLINE_SECONDS)
        valkey.stop_redis()
        go_on.set()
        await asyncio.wait_for(finished.wait(), DEADLINE_SECONDS)
        valkey.start_redis()

        async def gone() -> bool:
            with suppress(RedisError, OSError):
                return await shop.queued() == 0 and shop.worker.job_counter == 0
            return False

        await until(gone)
        await shop.assert_no_slot_is_leaked()


async def test_a_drained_worker_finishes_what_runs_and_takes_no_more(valkey: EmbeddedServers):
    started, go_on = asyncio.Event(), asyncio.Event()
    done: list[int] = []

    async def work(_: dict[str, Any], number: int) -> None:
        started.set()
        await go_on.wait()
        done.append(number)

    async def takes_no_more() -> bool:
        return not shop.worker.allow_pick_jobs

    async with workshop(valkey, work=work) as shop:
        shop.worker.in_progress_timeout_s = 2 * DEADLINE_SECONDS  # nothing is delivered twice meanwhile
        await shop.enqueue("work", 1)
        await asyncio.wait_for(started.wait(), DEADLINE_SECONDS)
        draining = asyncio.create_task(shop.worker.drain(DEADLINE_SECONDS))
        await until(takes_no_more)
        await shop.enqueue("work", 2)
        assert shop.worker.main_task is not None
        await asyncio.wait([shop.worker.main_task])
        go_on.set()
        await draining

        assert done == [1]
        assert await shop.queued() == 1


async def test_a_job_that_does_not_end_is_cut_when_its_time_is_over_and_stays_in_the_queue(valkey: EmbeddedServers):
    started, cut = asyncio.Event(), asyncio.Event()

    async def work(_: dict[str, Any]) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cut.set()

    async with workshop(valkey, work=work) as shop:
        await shop.enqueue("work")
        await asyncio.wait_for(started.wait(), DEADLINE_SECONDS)
        await shop.worker.drain(0.01)

        assert cut.is_set()
        assert await shop.queued() == 1
