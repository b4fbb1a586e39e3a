"""Windows that are too large to be copied: nobody reads more of them than was asked for, but who tries to copy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from eventually import DEADLINE_SECONDS

from service.cache import Cache, Outcome, Read
from service.copies.entries import Spoken, Window
from service.copies.names import Kind, session_name
from service.copies.scripts import ENTRY_BYTES_MAX
from service.queue import open_pool


async def secret() -> bytes:
    return b"secret"


@pytest.fixture
async def cache(redis_url: str) -> AsyncIterator[Cache]:
    opened = Cache(open_pool(redis_url, None), secret)
    opened.start()
    yield opened
    await opened.stop()


async def test_without_a_lease_no_more_is_read_than_was_asked_for(cache, redis):
    tenant, session = uuid4().hex, uuid4()
    asked: list[int | None] = []

    async def read(most: int | None) -> Read:
        asked.append(most)
        window = Window("u", has_more=True, messages=[Spoken(1, b"x" * ENTRY_BYTES_MAX)])
        return Read(window, seq=1, lasting_ms=None)

    lease = session_name(tenant, session) + Kind.WINDOW.value + b":l"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not await redis.persist(lease):
            asked.clear()
            await cache.read(Kind.WINDOW, tenant, session, read, limit=3)
        assert asked == [None]  # whoever has the lease reads what a copy is made of
        outcome = Outcome.BYPASS
        while outcome is Outcome.BYPASS:  # the cache is asked again in a moment, after any trouble with Redis
            _, outcome = await cache.read(Kind.WINDOW, tenant, session, read, limit=3)

    assert outcome is Outcome.MISS
    assert asked[-1] == 3
    await redis.delete(lease)
