"""Redis hangs, dies, restarts from its file, forgets, is full: no write fails, and nothing acknowledged is unseen."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

import httpx2
import msgspec
import pytest
from eventually import DEADLINE_SECONDS
from own_redis import OwnRedis
from reading import copied, opened, two_of

from service.copies.link import Link, new_generation
from service.copies.names import GENERATION, Kind, session_name
from service.copies.scripts import BEAT, MARK, READ, SEQ_DIGITS, TIMES_DIGITS
from service.queue import open_pool

TITLES = 12


@pytest.fixture
async def two(own_redis, running_app, client_of, settings, make_key):
    key = await make_key(f"tenant-{uuid4().hex}")
    ours = msgspec.structs.replace(settings, redis_url=own_redis.url)
    async with two_of(running_app, client_of, ours, key) as clients:
        yield clients


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
        await copied(client, session, f"{session}/messages")
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


async def test_what_a_process_could_not_have_confirmed_is_seen_once_it_begins_a_new_generation(own_redis, two):
    """Its writes find no place at Redis, all else does: its beat, and the other process, which goes on showing copies.

    A copy would end by itself after 50 s, too: so it is looked whether there was a new generation.
    """
    first, second = two
    session = await opened(second)  # `first` has written nothing yet, so it needs one more connection
    async with own_redis.client() as client:
        await client.ping()
        await copied(first, session)
        await copied(second, session)
        before = await client.get(GENERATION)
        await client.config_set("maxclients", "1")  # who is there stays, nobody comes in
        changed = await first.patch(session, json={"title": "changed"})
        await client.config_set("maxclients", "1000")
        title = None
        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE_SECONDS):
                while title != "changed":
                    title = (await second.get(session)).json()["title"]
        after = await client.get(GENERATION)

    assert (changed.status_code, title) == (200, "changed")
    assert after != before


async def test_a_redis_that_comes_back_with_a_living_generation_shows_no_copy_of_it(own_redis):
    """Its file has the copy and the generation, which lives on here; of later changes it was not told."""
    pool = open_pool(own_redis.url, None)
    key, copy = session_name("tenant", uuid4()) + Kind.SNAPSHOT.value, b"0" * SEQ_DIGITS + b"0" * TIMES_DIGITS + b"{}"
    before, after = Link(pool, DEADLINE_SECONDS), Link(pool, DEADLINE_SECONDS)
    generation = await before.call(BEAT, [GENERATION], [new_generation(), 1])
    async with own_redis.client() as client:
        await client.set(GENERATION, generation)
        await client.set(key, MARK + generation + copy)
    _, _, shown = await before.call(READ, [GENERATION, key], [new_generation(), b"token"])
    own_redis.kill()
    await own_redis.start()
    async with own_redis.client() as client:
        assert await client.mget(GENERATION, key) == [generation, MARK + generation + copy]
    lives, _, leased = await after.call(READ, [GENERATION, key], [new_generation(), b"token"])
    await before.close()
    await after.close()

    assert shown == MARK + generation + copy
    assert leased == 1  # there is no copy, and whoever asks may make one
    assert lives != generation
