"""Each ring is a job of its own: one that comes while the job of an earlier ring runs is not swallowed."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from eventually import DEADLINE_SECONDS
from workshop import SLOTS, url_of, workshop

from service.domain.work import Queue
from service.embedded.servers import EmbeddedServers
from service.queue import RELAY_EVENTS, Doorbell, open_queue


@pytest.mark.usefixtures("patient_redis")
async def test_a_ring_that_comes_while_the_job_runs_is_a_job_of_its_own(valkey: EmbeddedServers):
    began, go_on, runs = asyncio.Event(), asyncio.Event(), 0

    async def job(_ctx: dict[str, Any]) -> None:
        nonlocal runs
        runs += 1
        began.set()
        await go_on.wait()

    async with workshop(valkey, **{RELAY_EVENTS: job}) as shop:
        redis = open_queue(url_of(valkey), timeout_seconds=DEADLINE_SECONDS)
        shop.worker.queue_name = Queue.EVENTS.key
        shop.worker.in_progress_timeout_s = 2 * DEADLINE_SECONDS  # nothing is delivered twice meanwhile
        bell = Doorbell(redis)
        bell.start()
        try:
            for ring in range(1, SLOTS + 1):
                began.clear()
                bell.ring()
                with suppress(TimeoutError):
                    await asyncio.wait_for(began.wait(), DEADLINE_SECONDS)
                assert runs == ring, f"ring {ring} was swallowed"
        finally:
            go_on.set()
            await bell.stop()
            await redis.aclose(close_connection_pool=True)
