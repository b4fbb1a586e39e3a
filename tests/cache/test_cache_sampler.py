"""The sampler finds a copy that is not what is stored, and only that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from conversations import opened, query

from service.copies.entries import Notary
from service.copies.names import GENERATION, Kind, session_name
from service.copies.scripts import MARK
from service.encoding import snapshot_of, window_of
from service.queue import open_queue
from service.store import copies
from workers.jobs.sample_cache import AGAIN_SECONDS, SAMPLE_COPIES, Sampler
from workers.main import SWEEP_SECONDS

LIFE_MS = 60_000
OTHER = b"0123456789abcdef"


@pytest.fixture
async def copied(database, caller, redis):
    """A session whose copies stand in a Redis that holds nothing else; gives its id."""
    await redis.flushdb()
    session = await opened(database, caller)
    notary = Notary(await copies.read_secret(database) or b"")
    await redis.set(GENERATION, OTHER, px=LIFE_MS)
    async with database.connect() as tx:
        snapshot = await copies.snapshot(tx, caller.tenant_id, session.id)
        window = await copies.newest_messages(tx, caller.tenant_id, session.id)
    name = session_name(caller.tenant_id, session.id)
    key = name + Kind.SNAPSHOT.value
    await redis.set(key, notary.write_snapshot(key, OTHER, snapshot.seq, snapshot_of(snapshot)), px=LIFE_MS)
    key = name + Kind.WINDOW.value
    await redis.set(key, notary.write_window(key, OTHER, window.seq, window_of(window)), px=LIFE_MS)
    return session


class Pause:
    """What happens between the first look and the second: nothing, or that somebody deletes these copies."""

    def __init__(self, redis) -> None:
        self._redis = redis
        self.repairs: list[bytes] = []

    async def __call__(self) -> None:
        if self.repairs:
            await self._redis.delete(*self.repairs)


@pytest.fixture
def pause(redis) -> Pause:
    return Pause(redis)


@pytest.fixture
async def sampler(database, redis_url, pause) -> AsyncIterator[Sampler]:
    queue = open_queue(redis_url, timeout_seconds=5)
    yield Sampler(database, queue, pause)
    await queue.aclose(close_connection_pool=True)


async def test_true_copies_are_counted_and_none_is_stale(database, copied, sampler):
    async with database.connect() as tx:
        before = await copies.counted(tx)
    stale = await sampler.sweep()
    async with database.connect() as tx:
        after = await copies.counted(tx)

    assert stale == 0
    assert (after.sampled_total - before.sampled_total, after.stale_total) == (2, before.stale_total)


async def test_a_copy_that_is_not_what_is_stored_is_counted_as_stale(database, copied, sampler):
    await query(database, "UPDATE sessions SET title = 'other' WHERE id = $1", copied.id)
    async with database.connect() as tx:
        before = await copies.counted(tx)
    stale = await sampler.sweep()
    async with database.connect() as tx:
        after = await copies.counted(tx)

    assert stale == 1
    assert after.stale_total - before.stale_total == 1


async def test_what_is_repaired_in_the_time_that_it_may_take_is_not_stale(database, copied, sampler, pause, caller):
    await query(database, "UPDATE sessions SET title = 'other' WHERE id = $1", copied.id)
    pause.repairs = [session_name(caller.tenant_id, copied.id) + Kind.SNAPSHOT.value]

    assert await sampler.sweep() == 0


def test_what_a_killed_writer_left_gets_the_time_until_the_relay_has_swept():
    assert AGAIN_SECONDS > SWEEP_SECONDS


async def test_a_walk_comes_by_every_copy_however_many_redis_gives_at_a_time(sampler, redis):
    await redis.flushdb()
    keys = {session_name("tenant", uuid4()) + Kind.SNAPSHOT.value for _ in range(3 * SAMPLE_COPIES)}
    await redis.mset(dict.fromkeys(keys, b"x"))
    met: set[bytes] = set()
    for _ in range(6):  # twice as many as are needed: Redis may give a key twice
        met.update(await sampler._next_keys())

    assert met >= keys


async def test_a_copy_that_no_reader_would_be_shown_is_not_compared(database, copied, sampler, redis):
    await query(database, "UPDATE sessions SET title = 'other' WHERE id = $1", copied.id)
    await redis.set(GENERATION, OTHER[::-1], px=LIFE_MS)

    assert await sampler.sweep() == 0


async def test_whatever_else_stands_there_is_no_reason_to_stop(copied, sampler, redis, caller):
    name = session_name(caller.tenant_id, copied.id)
    await redis.set(name + Kind.SNAPSHOT.value, MARK + OTHER + b"garbage")
    await redis.delete(name + Kind.WINDOW.value)
    await redis.rpush(name + Kind.WINDOW.value, "x")

    assert await sampler.sweep() == 0
