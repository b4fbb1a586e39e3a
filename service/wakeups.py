"""Wake-ups: after a commit, those who watch are told to look at PostgreSQL again.

A wake-up is a key of 16 bytes and says nothing but "look". It may be lost, doubled or made up by somebody else without
harm: what is read comes from PostgreSQL alone, and whoever watches looks every few seconds anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import secrets
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from arq.connections import ArqRedis
from prometheus_client import Counter
from redis.exceptions import RedisError

from service.log import get_logger

CHANNEL = "holdfast:wakeups"
KEY_BYTES = 16

PUBLISH_INTERVAL_SECONDS = 0.01
"""One message for all commits of 10 ms: a fifth of what a wake-up may take, and at most 100 messages a second."""

PUBLISH_SECONDS_MAX = 0.1
"""A message that takes longer is a Redis in trouble; who watches looks by itself."""

SILENCE_SECONDS_AFTER_FAILURE = 1.0
"""How long a failing Redis is left alone, so that its trouble costs one log line and one attempt a second."""

KEYS_WAITING_MAX = 1000
"""16 KB in one message. Of more sessions in 10 ms, those beyond are found by the next look."""

SUBSCRIBE_SECONDS_MAX = 1.0
QUIET_SECONDS = 5.0
"""After so long without a message the listener asks whether Redis is there, and gives it as long to answer."""

RETRY_SECONDS_MIN = 0.1
RETRY_SECONDS_MAX = 1.0

CANCEL_SECONDS = 0.2
CANCELS_MAX = 5
"""Clients of Redis have been seen to swallow a cancellation; the listener's loop then ends by itself, or is let go."""

DICE = random.SystemRandom()
"""Shares no state with anybody else's chance."""

LOG = get_logger("wakeups")


def session_key(session_id: UUID) -> bytes:
    """The key of those who watch a session."""
    return session_id.bytes


def feed_key(tenant_id: str, user_id: str | None) -> bytes:
    """The key of those who watch all events of a tenant, or of one of its users."""
    named = f"{len(tenant_id)}:{tenant_id}" + ("" if user_id is None else f"/{user_id}")
    return hashlib.blake2b(named.encode("utf-8", "surrogateescape"), digest_size=KEY_BYTES).digest()


class Waker:
    """Wakes those who watch, in this process at once and in all others by Redis: coalesced, bounded, best effort."""

    def __init__(
        self,
        redis: ArqRedis,
        here: Callable[[Iterable[bytes]], None] | None = None,
        failures: Counter | None = None,
    ) -> None:
        self.name = secrets.token_bytes(KEY_BYTES)
        """Stands before the keys in each message, so that a process need not heed its own."""
        self._redis = redis
        self._here = here
        self._failures = failures
        self._waiting: set[bytes] = set()
        self._wanted = asyncio.Event()
        self._stopping = asyncio.Event()
        self._publishing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to publish in the background."""
        self._publishing = asyncio.create_task(self._publish_when_wanted(), name="waker")

    def wake(self, *keys: bytes) -> None:
        """Wake those who watch by these keys; returns at once."""
        if self._here is not None:
            self._here(keys)
        if len(self._waiting) + len(keys) <= KEYS_WAITING_MAX:
            self._waiting.update(keys)
            self._wanted.set()

    async def stop(self) -> None:
        """Publish what waits, then stop. A message on its way is waited for, not cancelled: it is bounded."""
        if self._publishing is None:
            return
        self._stopping.set()
        self._wanted.set()
        await self._publishing
        self._publishing = None
        if self._waiting:
            await self._publish()

    async def _publish_when_wanted(self) -> None:
        while True:
            await self._wanted.wait()
            if self._stopping.is_set():
                return
            self._wanted.clear()
            published = await self._publish()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PUBLISH_INTERVAL_SECONDS if published else SILENCE_SECONDS_AFTER_FAILURE):
                    await self._stopping.wait()

    async def _publish(self) -> bool:
        keys, self._waiting = self._waiting, set()
        try:
            async with asyncio.timeout(PUBLISH_SECONDS_MAX):
                await self._redis.publish(CHANNEL, self.name + b"".join(keys))
        except (RedisError, OSError, TimeoutError) as error:
            if self._failures is not None:
                self._failures.inc()
            LOG.warning("wakeups.lost", error=type(error).__name__)
            return False
        return True


class Listener:
    """Hears the wake-ups of all other processes over one connection, which it makes anew as often as it breaks.

    `on_wake` gets the keys of a message, `on_change` whether they are being heard at all.
    """

    def __init__(
        self,
        redis: ArqRedis,
        *,
        own_name: bytes,
        on_wake: Callable[[Iterable[bytes]], None],
        on_change: Callable[[bool], None],
    ) -> None:
        self._redis = redis
        self._own_name = own_name
        self._on_wake = on_wake
        self._on_change = on_change
        self._is_listening = False
        self._in_trouble = False
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to listen in the background."""
        self._running = asyncio.create_task(self._listen_again_and_again(), name="wakeups")

    async def stop(self) -> None:
        """Stop listening; returns within a second, whatever the client of Redis makes of it."""
        self._stopping.set()
        for _ in range(CANCELS_MAX):
            if self._running is None or self._running.done():
                return
            self._running.cancel()
            await asyncio.wait([self._running], timeout=CANCEL_SECONDS)

    async def _listen_again_and_again(self) -> None:
        wait_seconds = RETRY_SECONDS_MIN
        while not self._stopping.is_set():
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                if not self._in_trouble:
                    LOG.warning("wakeups.unheard", error=type(error).__name__)
                self._in_trouble = True
            except Exception:  # whatever it was, streams must not depend on this task's luck
                LOG.exception("wakeups.broke")
            wait_seconds = RETRY_SECONDS_MIN if self._is_listening else min(RETRY_SECONDS_MAX, wait_seconds * 2)
            self._tell(is_listening=False)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_seconds * DICE.uniform(0.5, 1)):
                    await self._stopping.wait()

    async def _listen(self) -> None:
        pubsub = self._redis.pubsub()
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS_MAX):
                await pubsub.subscribe(CHANNEL)
            was_asked = False
            while not self._stopping.is_set():
                message: dict[str, Any] | None = await pubsub.get_message(timeout=QUIET_SECONDS)
                if message is None and was_asked:
                    raise TimeoutError
                if message is None:
                    await pubsub.ping()
                elif message["type"] == "subscribe":
                    self._tell(is_listening=True)
                elif message["type"] == "message":
                    self._hear(message["data"])
                was_asked = message is None
        finally:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(CANCEL_SECONDS):
                    await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _tell(self, *, is_listening: bool) -> None:
        if is_listening and self._in_trouble:
            LOG.info("wakeups.heard_again")
            self._in_trouble = False
        if is_listening is not self._is_listening:
            self._is_listening = is_listening
            self._on_change(is_listening)

    def _hear(self, message: Any) -> None:
        """Heed a message, unless it is one of our own, or cannot be one at all."""
        if not isinstance(message, bytes) or message.startswith(self._own_name):
            return
        if len(message) % KEY_BYTES or len(message) > (KEYS_WAITING_MAX + 1) * KEY_BYTES:
            return
        self._on_wake(message[at : at + KEY_BYTES] for at in range(KEY_BYTES, len(message), KEY_BYTES))
