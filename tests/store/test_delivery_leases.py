"""Whoever has lost a delivery to another worker can neither keep it, nor give it back, record it, or drop it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from conversations import a_lock_is_awaited, opened, query, said, service_of

from service.domain.delivery import DeliveryStatus, Outcome, Verdict
from service.store import attempts, deliveries
from service.store.attempts import Record
from service.store.deliveries import IN_FLIGHT_MAX, Claim, Room
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
    await attempts.renew(tx, [held])


async def give_back(tx: Tx, held: Claim) -> None:
    await attempts.give_back(tx, [held])


async def record(tx: Tx, held: Claim) -> None:
    outcome = Outcome(latency_ms=1, response_status=204)
    await attempts.record(tx, [Record(held, outcome, Verdict(DeliveryStatus.SUCCEEDED))])


async def drop(tx: Tx, held: Claim) -> None:
    await attempts.drop(tx, held)


ACTS = pytest.mark.parametrize("act", [renew, give_back, record, drop])


async def claimed(database: Database) -> Claim:
    async with database.begin() as tx:
        await deliveries.lead_claims(tx)
        (claim,) = await deliveries.claim(tx, Room(attempts=10, doubtful=10))
    return claim


@pytest.fixture
async def held(own_database: Database) -> Claim:
    """The one delivery there is, claimed."""
    await query(own_database, ENDPOINT, uuid4())
    session = await opened(own_database, CALLER, activate=True)
    await said(own_database, CALLER, session.id, "words")
    await Relay(own_database).drain()
    return await claimed(own_database)


@ACTS
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


@ACTS
async def test_a_claim_that_stands_does(
    own_database: Database, held: Claim, act: Callable[[Tx, Claim], Awaitable[Any]]
):
    before = await query(own_database, STANDS)
    async with own_database.begin() as tx:
        await act(tx, held)

    assert await query(own_database, STANDS) != before


async def claim_five(tx: Tx) -> list[Claim]:
    await deliveries.lead_claims(tx)
    return await deliveries.claim(tx, Room(attempts=10, doubtful=10))


async def test_whoever_claims_waits_for_the_claims_before_it_and_counts_them(own_database: Database):
    await query(own_database, ENDPOINT.replace("'session'", "'none'"), uuid4())
    session = await opened(own_database, CALLER, activate=True)
    await said(own_database, CALLER, session.id, *["words"] * 8)
    await Relay(own_database).drain()

    async def second() -> list[Claim]:
        async with own_database.begin() as tx:
            return await claim_five(tx)

    async with own_database.begin() as tx:
        first = await claim_five(tx)
        claiming = asyncio.create_task(second())
        await a_lock_is_awaited(own_database, by=claiming)

    assert (len(first), await claiming) == (IN_FLIGHT_MAX, [])
