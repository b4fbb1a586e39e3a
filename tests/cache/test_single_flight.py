"""Of many who ask for what is not there one asks PostgreSQL, and nobody is given what was read before it asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from eventually import DEADLINE_SECONDS

from service.cache import Cache, Outcome, Read
from service.copies.entries import Snapshot
from service.copies.names import Kind
from service.metrics import Metrics
from service.queue import open_pool

ASKING = 100
NOT_COPIED = 0


class Stored:
    """A session in PostgreSQL as its n-th reader finds it, who goes on when it may; how many have read."""

    def __init__(self) -> None:
        self.id = uuid4()
        self.reads = 0
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def read(self, _limit: int | None) -> Read:
        self.reads += 1
        found = Read(Snapshot("ada", self.reads, b"{}"), self.reads, NOT_COPIED)
        self.begun.set()
        await self.may_end.wait()
        return found


class Asked:
    """A cache, and how many have come as far as to read PostgreSQL, or to wait for who does."""

    def __init__(self, redis_url: str) -> None:
        self._metrics = Metrics()
        self.cache = Cache(open_pool(redis_url, None), self._secret, self._metrics)

    async def _secret(self) -> bytes:
        return b"a secret of the tests alone, 32 b"

    def ask(self, stored: Stored) -> asyncio.Task[tuple[int, Outcome]]:
        async def ask() -> tuple[int, Outcome]:
            entry, outcome = await self.cache.read(Kind.SNAPSHOT, "tenant", stored.id, stored.read)
            assert isinstance(entry, Snapshot)
            return entry.version, outcome

        return asyncio.create_task(ask())

    def come(self) -> int:
        """Each is counted in the very step in which it begins to read, or joins who will."""
        labels = [{"kind": Kind.SNAPSHOT.label, "outcome": outcome} for outcome in (Outcome.MISS, Outcome.BYPASS)]
        read = self._metrics.registry.get_sample_value
        return sum(int(read("holdfast_cache_reads_total", label) or 0) for label in labels)

    async def until_come(self, count: int) -> None:
        while self.come() < count:  # noqa: ASYNC110 - a counter has no event, and there is a deadline
            await asyncio.sleep(0.001)


@pytest.fixture
async def asked(redis_url: str) -> AsyncIterator[Asked]:
    """Of a process that has begun to ask Redis."""
    made = Asked(redis_url)
    made.cache.start()
    async with asyncio.timeout(DEADLINE_SECONDS):
        outcome = Outcome.BYPASS
        while outcome is Outcome.BYPASS:
            stored = Stored()
            stored.may_end.set()
            _, outcome = await made.ask(stored)
    yield made
    await made.cache.stop()


async def test_of_many_who_ask_at_once_for_what_is_not_there_one_asks_postgresql(asked: Asked):
    """Two at the most: who comes while one reads waits for the next. Again, where Redis was too slow to be asked."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        outcomes = {Outcome.BYPASS}
        while Outcome.BYPASS in outcomes:
            stored, before = Stored(), asked.come()
            asking = [asked.ask(stored) for _ in range(ASKING)]
            await asked.until_come(before + ASKING)
            stored.may_end.set()
            outcomes = {outcome for _, outcome in await asyncio.gather(*asking)}

    assert 1 <= stored.reads <= 2


async def test_who_asks_while_another_reads_is_given_what_a_later_read_finds(asked: Asked):
    """What is read may have been looked up before a change that the newcomer knows of."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        stored, before = Stored(), asked.come()
        first = asked.ask(stored)
        await stored.begun.wait()
        later = [asked.ask(stored) for _ in range(ASKING)]
        await asked.until_come(before + 1 + ASKING)
        stored.may_end.set()
        versions = [version for version, _ in await asyncio.gather(first, *later)]

    assert versions[0] == 1
    assert min(versions[1:]) > 1
