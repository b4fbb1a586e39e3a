"""Deliveries to names whose servers are silent: they keep nobody waiting, and want of room here is nobody's failure."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conversations import query, service_of
from dispatch import delivering, endpoint, told
from eventually import until
from receiver import Receiver
from silent_names import DEADLINE_SECONDS, Names, naming

from service import resolver
from service.store.engine import Database
from workers import egress

NEIGHBOURS = [service_of("first"), service_of("second")]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """However slow the machine is, no attempt ends before the name is answered."""
    monkeypatch.setattr(resolver, "RESOLVE_SECONDS_MAX", DEADLINE_SECONDS)
    monkeypatch.setattr(egress, "ATTEMPT_SECONDS_MAX", DEADLINE_SECONDS)
    with naming(monkeypatch) as names:
        yield names


async def silence(database: Database, count: int) -> None:
    """So many endpoints with silent names, two events for each."""
    for number in range(count):
        tenant_id = NEIGHBOURS[number % 2].tenant_id
        await endpoint(database, f"http://silent{number}.test/", tenant_id=tenant_id)
    for neighbour in NEIGHBOURS:
        await told(database, 2, neighbour)


@pytest.mark.parametrize("count", [10, 60])
async def test_a_receiver_is_reached_while_many_names_are_silent(own_database: Database, names: Names, count: int):
    async with Receiver() as good, delivering(own_database) as deliveries:
        await silence(own_database, count)

        async def all_are_asked_for() -> bool:
            deliveries.wake()
            return names.waiting == count

        await until(all_are_asked_for)
        webhook, _ = await endpoint(own_database, f"http://hooks.test:{good.port}/")
        await told(own_database, 10)
        deliveries.wake()
        await good.until(10)

        assert names.waiting == count
        names.answer.set()
    assert await query(
        own_database, f"SELECT failing_since FROM webhook_endpoints WHERE id = '{webhook.id}'"
    ) == [(None,)]  # fmt: skip
    assert len(good.calls) == 10


async def test_a_delivery_that_finds_no_room_to_ask_for_a_name_is_no_attempt(
    own_database: Database, names: Names, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(resolver, "LOOKUPS_MAX", 1)
    monkeypatch.setattr(resolver, "ROOM_SECONDS_MAX", 0.01)
    async with Receiver() as good, delivering(own_database) as deliveries:
        await silence(own_database, 1)
        deliveries.wake()

        async def one_is_silent() -> bool:
            return names.waiting == 1

        await until(one_is_silent)
        webhook, _ = await endpoint(own_database, f"http://hooks.test:{good.port}/")
        await told(own_database, 2)
        first = f"FROM webhook_deliveries WHERE endpoint_id = '{webhook.id}' AND event_seq = 1"

        async def is_claimed_for_the_third_time() -> bool:
            deliveries.wake()
            return await query(own_database, f"SELECT lease_token >= 3 {first}") == [(True,)]

        await until(is_claimed_for_the_third_time)
        tried = await query(own_database, f"SELECT status, attempt_count, last_attempt_at, error {first}")
        failing = await query(
            own_database, f"SELECT failing_since, disabled_at FROM webhook_endpoints WHERE id = '{webhook.id}'"
        )
        names.answer.set()
        await good.until(2)

    assert [tuple(row) for row in tried] == [("pending", 0, None, None)]
    assert [tuple(row) for row in failing] == [(None, None)]
    assert [call.event["seq"] for call in good.calls] == [1, 2]
