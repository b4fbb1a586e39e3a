"""All that the service ever says to Redis about work: "look at the database now".

A doorbell may be lost at any moment without harm, because a sweep finds the work by query; so it is bounded in time,
rung at most every 20 ms per process, and its failure is counted and logged, never shown to a caller.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any
from uuid import uuid4

import msgspec
from arq.connections import ArqRedis
from prometheus_client import Counter
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service import faults
from service.domain.work import Queue
from service.faults import Point
from service.log import get_logger

RING_INTERVAL_SECONDS = 0.02
"""One ring for all commits of 20 ms: a round trip to Redis per commit would halve the writes (measured)."""

RING_SECONDS_MAX = 0.1
"""A doorbell that takes longer is a Redis in trouble; the sweep will do."""

SILENCE_SECONDS_AFTER_FAILURE = 1.0
"""How long a failing Redis is left alone, so that its trouble costs one log line and one attempt a second."""

RINGS_WAITING_MAX = 100
"""Where so many rings wait unanswered, nobody is at work, and one more would only fill Redis (258 bytes each)."""

RELAY_EVENTS = "relay_events"
INSPECT_ATTACHMENTS = "inspect_attachments"
DELIVER_WEBHOOKS = "deliver_webhooks"
"""The jobs that are rung for, by name."""

JOBS = {Queue.EVENTS: RELAY_EVENTS, Queue.WEBHOOKS: DELIVER_WEBHOOKS, Queue.ATTACHMENTS: INSPECT_ATTACHMENTS}
"""What the worker of each queue is rung for."""

LOG = get_logger("queue")


def encode_job(job: dict[str, Any]) -> bytes:
    """A job as msgpack: unlike pickle, reading it cannot run code. Exceptions become their names."""
    return msgspec.msgpack.encode(job, enc_hook=lambda value: type(value).__name__)


def decode_job(job: bytes) -> dict[str, Any]:
    """The job that `encode_job` wrote."""
    decoded: dict[str, Any] = msgspec.msgpack.decode(job, type=dict[str, Any])
    return decoded


def open_queue(redis_url: str, *, timeout_seconds: float = RING_SECONDS_MAX) -> ArqRedis:
    """A client of Redis that never waits long and never retries by itself. Nothing is connected yet."""
    return ArqRedis(
        connection_pool=open_pool(redis_url, timeout_seconds),
        job_serializer=encode_job,
        job_deserializer=decode_job,
        default_queue_name=Queue.EVENTS.key,
    )


def open_pool(redis_url: str, timeout_seconds: float | None) -> ConnectionPool:
    """Connections to Redis that never retry by themselves; None: that who uses them limits their time."""
    return ConnectionPool.from_url(
        redis_url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
    )


class RedisProbe:
    """Asks whether Redis is there, without waiting long."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis

    async def answers(self) -> bool:
        """True when Redis answered in time."""
        try:
            async with asyncio.timeout(RING_SECONDS_MAX):
                return bool(await self._redis.ping())
        except (RedisError, OSError, TimeoutError):
            return False


class Doorbell:
    """Rings the worker of one queue after commits: coalesced, bounded, best effort."""

    def __init__(self, redis: ArqRedis, queue: Queue = Queue.EVENTS, failures: Counter | None = None) -> None:
        self._redis = redis
        self._queue = queue
        self._failures = failures
        self._wanted = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ringing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to ring in the background."""
        self._ringing = asyncio.create_task(self._ring_when_wanted(), name="doorbell")

    def ring(self) -> None:
        """Ask for a ring; returns at once."""
        self._wanted.set()

    async def stop(self) -> None:
        """Ring once more if that is still wanted, then stop.

        A ring in progress is waited for, not cancelled: it is bounded, and clients of Redis have been seen to swallow
        a cancellation that came with an answer.
        """
        if self._ringing is None:
            return
        wanted = self._wanted.is_set()
        self._stopping.set()
        self._wanted.set()
        await self._ringing
        self._ringing = None
        if wanted:
            await self._ring()

    async def _ring_when_wanted(self) -> None:
        while True:
            await self._wanted.wait()
            if self._stopping.is_set():
                return
            self._wanted.clear()
            rung = await self._ring()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RING_INTERVAL_SECONDS if rung else SILENCE_SECONDS_AFTER_FAILURE):
                    await self._stopping.wait()

    async def _ring(self) -> bool:
        try:
            async with asyncio.timeout(RING_SECONDS_MAX):
                if await self._redis.zcard(self._queue.key) >= RINGS_WAITING_MAX:
                    return True
                # A fresh id each time: arq drops a job whose id is still running, and with it the ring.
                await self._redis.enqueue_job(JOBS[self._queue], _job_id=uuid4().hex, _queue_name=self._queue.key)
                faults.reach(Point.AFTER_PUSH)
        except (RedisError, OSError, TimeoutError) as error:
            if self._failures is not None:
                self._failures.inc()
            LOG.warning("doorbell.failed", queue=self._queue, error=type(error).__name__)
            return False
        return True
