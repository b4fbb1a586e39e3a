"""A batch of the relay makes few deliveries, however many endpoints a tenant has, and has something of each tenant."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest

from service.commands.relay import BATCH_DELIVERIES_MAX, _bounded
from service.domain.event import EventType
from service.store.outbox import OutboxRow

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def waiting(*tenants: str) -> list[OutboxRow]:
    """Events that wait, one of each tenant that is named, in this order."""
    return [
        OutboxRow(place, tenant, UUID(int=1), place, EventType.MESSAGE_CREATED, NOW)
        for place, tenant in enumerate(tenants)
    ]


@pytest.mark.parametrize("endpoints", [0, 1, 4])
def test_a_batch_that_makes_few_deliveries_is_whole(endpoints: int):
    rows = waiting(*["a"] * 500)

    assert _bounded(rows, {"a": endpoints}) == rows


def test_of_a_tenant_with_many_endpoints_there_are_the_first_events_and_of_the_others_all():
    rows = waiting(*["a"] * 250, *["b"] * 250)

    batch = _bounded(rows, {"a": 50})

    kept = Counter(row.tenant_id for row in batch)
    assert kept == {"a": BATCH_DELIVERIES_MAX // 2 // 50, "b": 250}
    assert [row.id for row in batch if row.tenant_id == "a"] == list(range(kept["a"]))


def test_of_each_tenant_there_is_one_event_in_any_case():
    rows = waiting(*(f"tenant-{number}" for number in range(500)), "tenant-0")

    batch = _bounded(rows, {f"tenant-{number}": 50 for number in range(500)})

    assert batch == rows[:500]
