"""A client of Valkey with the cache's scripts; and a Valkey of one test alone."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from loading import load_scripts
from own_redis import OwnRedis
from redis.asyncio import Redis

from service.queue import open_pool


@pytest.fixture(autouse=True)
def cache_is_well() -> None:
    if os.environ.get("TEST_CACHE"):
        pytest.skip("these tests decide for themselves how the cache fares")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    client = Redis(connection_pool=open_pool(redis_url, None))
    await load_scripts(client)
    yield client
    await client.aclose(close_connection_pool=True)


@pytest.fixture
async def own_redis() -> AsyncIterator[OwnRedis]:
    with TemporaryDirectory(prefix="holdfast-cache-") as folder:
        own = OwnRedis(Path(folder))
        await own.start()
        yield own
        own.kill()
