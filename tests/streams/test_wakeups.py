"""Wake-ups: few messages for many commits, heard by all others, and no harm done where Redis fails."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from eventually import DEADLINE_SECONDS
from prometheus_client import Counter

from service import wakeups
from service.queue import open_queue
from service.wakeups import (
    KEY_BYTES,
    KEYS_WAITING_MAX,
    SILENCE_SECONDS_AFTER_FAILURE,
    Listener,
    Waker,
    feed_key,
    session_key,
)


class Heard:
    """What a listener was told."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.messages = 0
        self.is_listening = False
        self.changed = asyncio.Event()

    def on_wake(self, keys: Iterable[bytes]) -> None:
        self.messages += 1
        self.keys += keys
        self.changed.set()

    def on_change(self, is_listening: bool) -> None:
        self.is_listening = is_listening
        self.changed.set()

    async def until_listening(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not self.is_listening:
                await self.changed.wait()
                self.changed.clear()

    async def until(self, key: bytes) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while key not in self.keys:
                self.changed.clear()
                await self.changed.wait()


@asynccontextmanager
async def listening(redis_url: str, own_name: bytes = b"") -> AsyncIterator[Heard]:
    heard, redis = Heard(), open_queue(redis_url, timeout_seconds=wakeups.SUBSCRIBE_SECONDS_MAX)
    listener = Listener(redis, own_name=own_name or b"x" * 16, on_wake=heard.on_wake, on_change=heard.on_change)
    listener.start()
    try:
        yield heard
    finally:
        await listener.stop()
        await redis.aclose(close_connection_pool=True)


@asynccontextmanager
async def waking(redis_url: str, **options: object) -> AsyncIterator[Waker]:
    redis = open_queue(redis_url, timeout_seconds=wakeups.PUBLISH_SECONDS_MAX)
    waker = Waker(redis, **options)  # type: ignore[arg-type]
    waker.start()
    try:
        yield waker
    finally:
        await waker.stop()
        await redis.aclose(close_connection_pool=True)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message is lost because a busy machine takes its time."""
    monkeypatch.setattr(wakeups, "PUBLISH_SECONDS_MAX", DEADLINE_SECONDS)
    monkeypatch.setattr(wakeups, "SUBSCRIBE_SECONDS_MAX", DEADLINE_SECONDS)


def new_key() -> bytes:
    return session_key(uuid4())


@pytest.mark.usefixtures("patient")
async def test_many_wakeups_at_once_are_one_message_and_each_key_comes_once(redis_url: str):
    keys = [new_key() for _ in range(50)]
    async with waking(redis_url) as waker, listening(redis_url) as heard:
        await heard.until_listening()
        for key in keys * 20:
            waker.wake(key)
        await heard.until(keys[-1])

    ours = [key for key in heard.keys if key in set(keys)]  # other tests' processes share the channel
    assert sorted(ours) == sorted(keys)


@pytest.mark.usefixtures("patient")
async def test_a_process_wakes_its_own_watchers_at_once_and_does_not_heed_its_own_message(redis_url: str):
    here: list[bytes] = []
    first, last = new_key(), new_key()
    async with (
        waking(redis_url, here=here.extend) as waker,
        waking(redis_url) as another,
        listening(redis_url, waker.name) as heard,
    ):
        await heard.until_listening()
        waker.wake(first)
        told_here = list(here)
        await waker.stop()  # its message has been sent
        another.wake(last)
        await heard.until(last)

    assert told_here == [first]
    assert first not in heard.keys


@pytest.mark.usefixtures("patient")
async def test_a_wakeup_just_before_the_stop_is_still_told(redis_url: str):
    key = new_key()
    async with listening(redis_url) as heard:
        await heard.until_listening()
        async with waking(redis_url) as waker:
            waker.wake(key)
        await heard.until(key)

    assert key in heard.keys


async def test_more_keys_than_a_message_takes_are_left_to_the_look(redis_url: str):
    async with waking(redis_url) as waker:
        for _ in range(KEYS_WAITING_MAX * 2):
            waker.wake(new_key())

        assert len(waker._waiting) == KEYS_WAITING_MAX


@asynccontextmanager
async def silent_server() -> AsyncIterator[str]:
    """Takes connections and never answers."""
    writers: list[asyncio.StreamWriter] = []

    async def take(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.close()
        for writer in writers:
            writer.close()


@pytest.mark.parametrize("trouble", ["silent", "nobody"])
async def test_where_redis_fails_nobody_waits_and_it_is_counted(trouble: str):
    failures = Counter("failures", "Wake-ups that were lost.", registry=None)
    began = time.monotonic()
    async with silent_server() as silent:
        url = silent if trouble == "silent" else "redis://127.0.0.1:1/0"
        async with asyncio.timeout(DEADLINE_SECONDS), waking(url, failures=failures) as waker, listening(url) as heard:
            for _ in range(100):
                waker.wake(new_key())
                await asyncio.sleep(0.002)

    # One attempt at first, one after each pause, and one at the stop.
    assert 1 <= failures._value.get() <= 2 + (time.monotonic() - began) / SILENCE_SECONDS_AFTER_FAILURE
    assert heard.keys == []
    assert not heard.is_listening


def test_keys_tell_views_apart():
    views = [("t", None), ("t", ""), ("t", "u"), ("t/u", None), ("tu", None), ("t", "u/v"), ("t/u", "v"), ("", "t/u")]

    keys = [feed_key(*view) for view in views]

    assert len(set(keys)) == len(views)
    assert {len(key) for key in keys} == {KEY_BYTES}
