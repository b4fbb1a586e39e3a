"""Room for deliveries: endpoints that hang or fail, however many, leave enough of it to those that answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from conversations import query, service_of
from dispatch import all_are, delivering, endpoint, execute, room, told
from eventually import until
from receiver import Call, Receiver, answering
from structlog.testing import capture_logs

from service.commands.deliveries import claim_deliveries
from service.domain import delivery
from service.domain.webhook import Ordering
from service.store.engine import Database
from workers.jobs import deliver_webhooks as module
from workers.jobs.deliver_webhooks import Deliveries

NEIGHBOURS = [service_of("first"), service_of("second")]
HANGING = 60


@asynccontextmanager
async def delivering_to_the_abyss(database: Database) -> AsyncIterator[tuple[Receiver, Deliveries]]:
    """A worker, and a receiver that takes all and answers nothing; it lets go before the worker stops and waits."""
    release = asyncio.Event()

    async def hang(_call: Call, _writer: asyncio.StreamWriter) -> None:
        await release.wait()

    async with Receiver(hang) as receiver, delivering(database) as deliveries:
        try:
            yield receiver, deliveries
        finally:
            release.set()


async def test_sixty_endpoints_that_begin_to_hang_at_once_delay_no_other(own_database: Database):
    async with Receiver() as good, delivering_to_the_abyss(own_database) as (abyss, deliveries):
        for number in range(HANGING):
            tenant_id = NEIGHBOURS[number % 2].tenant_id
            await endpoint(own_database, abyss.url, ordering=Ordering.NONE, tenant_id=tenant_id)
        for neighbour in NEIGHBOURS:
            await told(own_database, 10, neighbour)
        deliveries.wake()
        await abyss.until(HANGING * 5)
        for _ in range(10):
            await endpoint(own_database, good.url)
        await told(own_database, 10)
        deliveries.wake()
        await good.until(100)

        assert len(abyss.calls) == HANGING * 5


async def test_endpoints_that_fail_are_probed_a_few_at_a_time_beside_those_that_answer(
    own_database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ATTEMPTS_MAX", 20)
    monkeypatch.setattr(module, "DOUBTFUL_MAX", 10)
    async with Receiver() as good, delivering_to_the_abyss(own_database) as (abyss, deliveries):
        for _ in range(30):
            await endpoint(own_database, abyss.url, tenant_id=NEIGHBOURS[0].tenant_id)
        await execute(own_database, "UPDATE webhook_endpoints SET failing_since = now()")
        await told(own_database, 2, NEIGHBOURS[0])
        deliveries.wake()
        await abyss.until(10)
        for _ in range(10):
            await endpoint(own_database, good.url)
        await told(own_database, 10)
        deliveries.wake()
        await good.until(100)

        assert len(abyss.calls) == 10


async def test_an_endpoint_that_is_slow_counts_like_one_that_fails(
    own_database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ATTEMPTS_MAX", 20)
    monkeypatch.setattr(module, "DOUBTFUL_MAX", 10)
    monkeypatch.setattr(module, "SLOW_SECONDS", 0.0)
    async with Receiver() as good, delivering_to_the_abyss(own_database) as (abyss, deliveries):
        for _ in range(2):
            await endpoint(own_database, abyss.url, ordering=Ordering.NONE, tenant_id=NEIGHBOURS[0].tenant_id)
        await told(own_database, 20, NEIGHBOURS[0])
        deliveries.wake()
        await abyss.until(10)
        for _ in range(5):
            await endpoint(own_database, abyss.url, ordering=Ordering.NONE, tenant_id=NEIGHBOURS[1].tenant_id)
        await told(own_database, 10, NEIGHBOURS[1])
        deliveries.wake()
        await abyss.until(15)  # one each, though five are allowed
        for _ in range(10):
            await endpoint(own_database, good.url)
        await told(own_database, 10)
        deliveries.wake()
        await good.until(100)

        assert len(abyss.calls) == 15


class Crowd:
    """How many requests are answered at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.opened = asyncio.Event()

    async def answer(self, call: Call, writer: asyncio.StreamWriter) -> bytes | None:
        self.now += 1
        self.most = max(self.most, self.now)
        await self.opened.wait()
        await asyncio.sleep(0)
        said = await answering(204)(call, writer)
        self.now -= 1
        return said


async def in_flight(database: Database) -> int:
    (row,) = await query(database, "SELECT count(*) FROM webhook_deliveries WHERE is_in_flight")
    return int(row[0])


async def test_an_endpoint_gets_five_at_a_time_however_many_are_claimed_ahead_and_by_whom(own_database: Database):
    crowd = Crowd()
    async with (
        Receiver(crowd.answer) as receiver,
        delivering(own_database) as first,
        delivering(own_database) as second,
    ):
        await endpoint(own_database, receiver.url, ordering=Ordering.NONE)
        for _ in range(4):
            await told(own_database, 25)
            first.wake()
            second.wake()
        await receiver.until(5)
        crowd.opened.set()
        await until(all_are(own_database, *["succeeded"] * 100))

    assert crowd.most == 5
    assert len(receiver.calls) == 100


async def test_what_is_claimed_ahead_is_five_and_fifteen_and_goes_back_when_one_takes_long(
    own_database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "SLOW_SECONDS", 3600.0)
    async with delivering_to_the_abyss(own_database) as (abyss, deliveries):
        await endpoint(own_database, abyss.url, ordering=Ordering.NONE)
        await told(own_database, 30)
        deliveries.wake()

        async def twenty_are_claimed() -> bool:
            return await in_flight(own_database) == 5 + module.AHEAD

        await until(twenty_are_claimed)
        monkeypatch.setattr(module, "SLOW_SECONDS", 0.0)

        async def five_are_left() -> bool:
            deliveries.wake()
            return await in_flight(own_database) == 5

        await until(five_are_left)

        assert len(abyss.calls) == 5


async def test_what_is_claimed_ahead_goes_back_when_an_attempt_fails(
    own_database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(delivery, "RETRIES_AFTER_SECONDS", [3600.0] * len(delivery.RETRIES_AFTER_SECONDS))
    told_all = asyncio.Event()

    async def refuse(call: Call, writer: asyncio.StreamWriter) -> bytes | None:
        await told_all.wait()
        return await answering(500)(call, writer)

    async with Receiver(refuse) as receiver, delivering(own_database) as deliveries:
        await endpoint(own_database, receiver.url, ordering=Ordering.NONE)
        await told(own_database, 30)
        deliveries.wake()
        await receiver.until(5)
        told_all.set()

        async def all_have_failed_once() -> bool:
            rows = await query(own_database, "SELECT count(*) FROM webhook_deliveries WHERE attempt_count = 1")
            return rows[0][0] == 30

        await until(all_have_failed_once)
    counts = await query(own_database, "SELECT DISTINCT attempt_count FROM webhook_deliveries")

    assert [row[0] for row in counts] == [1]
    assert len(receiver.calls) == 30


async def test_each_endpoint_gets_one_before_another_gets_a_second(own_database: Database):
    early = [await endpoint(own_database, ordering=Ordering.NONE) for _ in range(5)]
    await told(own_database, 10)
    late = [await endpoint(own_database, ordering=Ordering.NONE, tenant_id="late") for _ in range(5)]
    await told(own_database, 10, service_of("late"))

    async def claimed(attempts: int) -> Counter[object]:
        async with own_database.begin() as tx:
            return Counter(claim.endpoint_id for claim in await claim_deliveries(tx, room(attempts)))

    everyone = {made.id for made, _ in [*early, *late]}
    assert await claimed(10) == dict.fromkeys(everyone, 1)
    assert await claimed(10) == dict.fromkeys(everyone, 1)
    assert await claimed(100) == dict.fromkeys(everyone, 3)


async def test_an_attempt_that_cannot_be_recorded_does_not_take_the_others_with_it(own_database: Database):
    await query(own_database, "ALTER TABLE webhook_deliveries ADD CHECK (response_status <> 500)")
    told_all = asyncio.Event()

    async def together(call: Call, writer: asyncio.StreamWriter) -> bytes | None:
        await told_all.wait()
        return await answering(500 if call.event["seq"] == 1 else 200)(call, writer)

    with capture_logs() as logged:
        async with Receiver(together) as receiver, delivering(own_database) as deliveries:
            await endpoint(own_database, receiver.url, ordering=Ordering.NONE)
            await told(own_database, 3)
            deliveries.wake()
            await receiver.until(3)
            told_all.set()
            await until(all_are(own_database, "pending", "succeeded", "succeeded"))

    assert {line["delivery_id"] for line in logged if line["event"] == "delivery.broke" and "delivery_id" in line}
    # The first one may come again: once its claim has run out it is nobody's.
    assert sorted(call.event["seq"] for call in receiver.calls if call.event["seq"] > 1) == [2, 3]
