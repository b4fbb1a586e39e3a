"""Redis hangs, dies, restarts from its file, forgets, is full: no write fails, and nothing acknowledged is unseen."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.embedded.binaries import find_valkey

BASE = "http://holdfast.test/api/v1"
DEADLINE_SECONDS = 30.0
TITLES = 12


class OwnRedis:
    """A Valkey that a test may stop, kill and start again. It comes back with whatever it had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"unix://{folder}/own.sock"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        options = {
            "port": "0", "unixsocket": f"{self._folder}/own.sock", "dir": str(self._folder), "save": "",
            "appendonly": "yes", "appendfsync": "always",
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([find_valkey().path, *arguments], stdout=subprocess.DEVNULL)  # noqa: ASYNC220 - it returns at once
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await self.answers():  # noqa: ASYNC110 - a condition, with a deadline
                await asyncio.sleep(0.02)

    async def answers(self) -> bool:
        async with self.client() as client:
            with suppress(RedisError, OSError):
                return bool(await client.ping())
        return False

    def client(self) -> Redis:
        return Redis.from_url(self.url)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


@pytest.fixture
async def own_redis() -> AsyncIterator[OwnRedis]:
    with TemporaryDirectory(prefix="holdfast-cache-") as folder:
        own = OwnRedis(Path(folder))
        await own.start()
        yield own
        own.kill()


@pytest.fixture
async def two(own_redis, running_app, client_of, settings, make_key):
    key = await make_key(f"tenant-{uuid4().hex}")
    ours = msgspec.structs.replace(settings, redis_url=own_redis.url)
    async with (
        running_app(ours) as one,
        running_app(ours) as other,
        client_of(one, key) as first,
        client_of(other, key) as second,
    ):
        first.base_url = second.base_url = httpx2.URL(BASE)
        yield first, second


async def opened(client: httpx2.AsyncClient) -> str:
    answer = await client.post("/sessions", json={"agent_id": "agent", "activate": True})
    assert answer.status_code == 201, answer.text
    return f"/sessions/{answer.json()['id']}"


async def copied(client: httpx2.AsyncClient, path: str) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await client.get(path)).headers["X-Cache"] != "hit":  # noqa: ASYNC110 - a condition, with a deadline
            await asyncio.sleep(0.01)


async def change_and_read(writer: httpx2.AsyncClient, reader: httpx2.AsyncClient, session: str) -> list[str]:
    """Writes that are acknowledged and not seen by the next read at the other process."""
    unseen = []
    for n in range(TITLES):
        title = f"title {n}"
        changed = await writer.patch(session, json={"title": title})
        assert changed.status_code == 200, changed.text
        read = await reader.get(session)
        if read.json()["title"] != title:
            unseen.append(f"{title}: {read.text}")
        said = await writer.post(f"{session}/messages", json={"content": title})
        assert said.status_code == 201, said.text
        page = await reader.get(f"{session}/messages?limit=1")
        if page.json()["data"][0]["content"] != title:
            unseen.append(f"{title}: {page.text}")
    return unseen


async def hang(redis: OwnRedis) -> Callable[[], Any]:
    redis.signal(signal.SIGSTOP)

    async def undo() -> None:
        redis.signal(signal.SIGCONT)

    return undo


async def die(redis: OwnRedis) -> Callable[[], Any]:
    redis.kill()
    return redis.start


async def forget(redis: OwnRedis) -> Callable[[], Any]:
    async with redis.client() as client:
        await client.flushall()
    return _nothing


async def be_full(redis: OwnRedis) -> Callable[[], Any]:
    async with redis.client() as client:
        await client.config_set("maxmemory", "1")

    async def undo() -> None:
        async with redis.client() as client:
            await client.config_set("maxmemory", "0")

    return undo


async def refuse_writes(redis: OwnRedis) -> Callable[[], Any]:
    async with redis.client() as client:
        await client.config_set("min-replicas-to-write", "1")

    async def undo() -> None:
        async with redis.client() as client:
            await client.config_set("min-replicas-to-write", "0")

    return undo


async def _nothing() -> None:
    return None


FAULTS = {"hangs": hang, "dies": die, "forgets": forget, "is full": be_full, "refuses writes": refuse_writes}


@pytest.mark.parametrize("fault", FAULTS)
async def test_whatever_redis_does_what_was_acknowledged_is_seen(own_redis, two, fault):
    first, second = two
    session = await opened(first)
    for client in two:
        await copied(client, session)
        await copied(client, f"{session}/messages")
    undo = await FAULTS[fault](own_redis)
    during = await change_and_read(first, second, session)
    await undo()
    after = await change_and_read(second, first, session)
    await copied(first, session)  # it is in use again

    assert (during, after) == ([], [])
    assert await change_and_read(first, second, session) == []


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.9, 1.3])
async def test_a_redis_that_hangs_for_a_moment_comes_back_with_nothing_stale(own_redis, two, seconds):
    first, second = two
    session = await opened(first)
    await copied(second, session)
    own_redis.signal(signal.SIGSTOP)
    changing = asyncio.create_task(first.patch(session, json={"title": "changed"}))
    await asyncio.sleep(seconds)
    own_redis.signal(signal.SIGCONT)
    changed = await changing
    read = await second.get(session)

    assert changed.status_code == 200
    assert read.json()["title"] == "changed"


async def test_a_redis_restarted_from_its_file_shows_no_copy_of_before(own_redis, two):
    first, second = two
    session = await opened(first)
    await copied(second, session)
    changing = asyncio.create_task(change_and_read(first, second, session))
    for _ in range(3):
        own_redis.kill()
        await own_redis.start()

    assert await changing == []
