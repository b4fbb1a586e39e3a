"""Whoever has lost a delivery to another worker can neither keep it, nor give it back, record it, or drop it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from conversations import opened, query, said, service_of

from service.domain.delivery import DeliveryStatus, Outcome
from service.store import deliveries
from service.store.deliveries import Claim
from service.store.engine import Database, Tx
from workers.jobs.relay_events import Relay

CALLER = service_of("tenant")
ENDPOINT = """
    INSERT INTO webhook_endpoints (id, tenant_id, url, event_types, ordering, secret, created_at, updated_at)
    VALUES ($1, 'tenant', 'https://receiver.example/', '{message.created}', 'session', 'whsec_', now(), now())
"""
STANDS = "SELECT status, attempt_count, is_in_flight, lease_token, due_at FROM webhook_deliveries"
RAN_OUT = "UPDATE webhook_deliveries SET due_at = statement_timestamp() - interval '1 second'"


async def renew(tx: Tx, held: Claim) -> None:
    await deliveries.renew(tx, [held])


async def record(tx: Tx, held: Claim) -> bool:
    return await deliveries.record(tx, held, Outcome(latency_ms=1, response_status=204), DeliveryStatus.SUCCEEDED, None)


async def claimed(database: Database) -> Claim:
    async with database.begin() as tx:
        (claim,) = await deliveries.claim(tx, 10)
    return claim


@pytest.fixture
async def held(own_database: Database) -> Claim:
    """The one delivery there is, claimed."""
    await query(own_database, ENDPOINT, uuid4())
    session = await opened(own_database, CALLER, activate=True)
    await said(own_database, CALLER, session.id, "words")
    await Relay(own_database).drain()
    return await claimed(own_database)


@pytest.mark.parametrize("act", [renew, deliveries.give_back, record, deliveries.drop])
async def test_an_old_claim_changes_nothing_of_the_new_one(
    own_database: Database, held: Claim, act: Callable[[Tx, Claim], Awaitable[Any]]
):
    await query(own_database, RAN_OUT)
    new = await claimed(own_database)
    before = await query(own_database, STANDS)
    async with own_database.begin() as tx:
        await act(tx, held)

    assert (new.delivery_id, new.lease_token > held.lease_token) == (held.delivery_id, True)
    assert await query(own_database, STANDS) == before


@pytest.mark.parametrize("act", [renew, deliveries.give_back, record, deliveries.drop])
async def test_a_claim_that_stands_does(
    own_database: Database, held: Claim, act: Callable[[Tx, Claim], Awaitable[Any]]
):
    before = await query(own_database, STANDS)
    async with own_database.begin() as tx:
        await act(tx, held)

    assert await query(own_database, STANDS) != before
