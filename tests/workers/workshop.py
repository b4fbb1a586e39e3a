"""A surviving worker with jobs of the test's own, and a producer that does not give up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from uuid import uuid4

from arq.connections import ArqRedis
from arq.constants import job_key_prefix
from arq.worker import func
from redis.exceptions import RedisError

from service.embedded.servers import EmbeddedServers
from service.queue import decode_job, encode_job, open_queue
from workers.worker import SurvivingWorker

TRIES_MAX = 1000
SLOTS = 5
POLL_SECONDS = 0.005
REDIS_SECONDS_MAX = 1.0
REDELIVERED_AFTER_SECONDS = 1
"""In the product this is the longest job plus 10 s; a test need not wait for that."""


class Workshop:
    """A worker that runs, and a producer that does not give up."""

    def __init__(self, worker: SurvivingWorker, producer: ArqRedis) -> None:
        self.worker = worker
        self.producer = producer

    async def enqueue(self, job: str, *arguments: object) -> None:
        """Enqueue a job, until Redis has taken it: arq takes a cut connection for a job that is there already."""
        id_ = uuid4().hex
        while True:
            with suppress(RedisError, OSError):
                if await self.producer.enqueue_job(job, *arguments, _job_id=id_, _queue_name=self.worker.queue_name):
                    return
                if await self.producer.exists(job_key_prefix + id_):
                    return
            await asyncio.sleep(POLL_SECONDS)

    async def enqueue_raw(self, job: bytes) -> None:
        """Put bytes into the queue as they are."""
        id_ = uuid4().hex
        await self.producer.set(job_key_prefix + id_, job)
        await self.producer.zadd(self.worker.queue_name, {id_: 1})

    async def queued(self) -> int:
        return int(await self.producer.zcard(self.worker.queue_name))

    async def assert_no_slot_is_leaked(self) -> None:
        """Every slot is free again: at some moment, as a poll takes one for a moment to see whether a job is left."""
        with suppress(TimeoutError):
            await until(self._all_slots_are_free)
        assert await self._all_slots_are_free(), f"a slot is leaked: {self.worker.job_counter} in use"

    async def _all_slots_are_free(self) -> bool:
        return (
            all(task.done() for task in self.worker.tasks.values())
            and self.worker.job_counter == 0
            and self.worker.sem._value == SLOTS + 1  # arq keeps one more than it has slots
        )


@asynccontextmanager
async def workshop(valkey: EmbeddedServers, **jobs: Callable[..., Awaitable[object]]) -> AsyncIterator[Workshop]:
    """A worker with these jobs; its task must still run at the end."""
    redis = open_queue(url_of(valkey), timeout_seconds=REDIS_SECONDS_MAX)
    producer = open_queue(url_of(valkey), timeout_seconds=REDIS_SECONDS_MAX)
    worker = SurvivingWorker(
        functions=[func(job, name=name) for name, job in jobs.items()],
        queue_name=f"queue-{uuid4().hex}",
        redis_pool=redis,
        max_jobs=SLOTS,
        keep_result=0,
        max_tries=TRIES_MAX,
        poll_delay=POLL_SECONDS,
        queue_read_limit=1000,
        job_serializer=encode_job,
        job_deserializer=decode_job,
        log_results=False,
    )
    worker.in_progress_timeout_s = REDELIVERED_AFTER_SECONDS
    working = asyncio.create_task(worker.async_run())
    try:
        yield Workshop(worker, producer)
        assert not (working.done() and worker.allow_pick_jobs), "the worker ended by itself"
    finally:
        await worker.drain(REDIS_SECONDS_MAX)
        await asyncio.gather(working, return_exceptions=True)
        await redis.aclose(close_connection_pool=True)
        await producer.aclose(close_connection_pool=True)


def url_of(valkey: EmbeddedServers) -> str:
    assert valkey.endpoints is not None
    return valkey.endpoints.redis_url or ""


def idle(shop: Workshop) -> Callable[[], Awaitable[bool]]:
    async def has_no_job() -> bool:
        return shop.worker.job_counter == 0

    return has_no_job


def has(done: list[int], number: int) -> Callable[[], Awaitable[bool]]:
    async def is_done() -> bool:
        return number in done

    return is_done
