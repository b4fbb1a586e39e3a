"""Endpoints, events that are relayed, and workers that deliver them, for tests of deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from conversations import opened, query, said, service_of
from eventually import DEADLINE_SECONDS
from sealing import SEALS

from service.commands.deliveries import claim_deliveries, record_attempts
from service.commands.webhooks import WebhookWish, create_webhook
from service.domain.caller import Caller
from service.domain.delivery import Failure, Outcome
from service.domain.webhook import Ordering, Webhook
from service.seals import Seals
from service.store.deliveries import Room
from service.store.engine import Database
from workers import egress as module
from workers.egress import Egress
from workers.jobs.deliver_webhooks import Deliveries
from workers.jobs.relay_events import Relay

CALLER = service_of("tenant")
REFUSED = Outcome(latency_ms=1, response_status=500, error=Failure.BAD_STATUS)
TAKEN = Outcome(latency_ms=1, response_status=200)


UNLIMITED = 1_000_000
"""So many attempts at one host: receivers of tests share loopback, and stand for hosts of their own."""


def room(attempts: int) -> Room:
    return Room(attempts=attempts, doubtful=attempts, each_host=UNLIMITED)


def half() -> float:
    """No jitter."""
    return 0.5


async def endpoint(
    database: Database, url: str = "http://127.0.0.1:9/", seals: Seals = SEALS, **fields: Any
) -> tuple[Webhook, str]:
    wanted: dict[str, Any] = {
        "tenant_id": CALLER.tenant_id,
        "url": url,
        "event_types": [],
        "description": None,
        "ordering": Ordering.SESSION,
        "disabled": False,
    }
    async with database.begin() as tx:
        return await create_webhook(tx, WebhookWish(**wanted | fields), seals)


async def told(database: Database, count: int, caller: Caller = CALLER) -> UUID:
    """A new session with `count` events, all relayed."""
    session = await opened(database, caller, activate=True)
    for number in range(count - 2):
        await said(database, caller, session.id, str(number))
    await Relay(database).drain()
    return session.id


@asynccontextmanager
async def delivering(
    database: Database, seals: Seals = SEALS, each_host: int = UNLIMITED, **egress: Any
) -> AsyncIterator[Deliveries]:
    """A worker's deliveries, at work. No attempt ends because a receiver waits for the rest of the test."""
    working = Deliveries(database, Egress(**{"allows_private": True} | egress), seals, each_host)
    stop = asyncio.Event()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ATTEMPT_SECONDS_MAX", 2 * DEADLINE_SECONDS)
        task = asyncio.create_task(working.work_until(stop))
        try:
            yield working
        finally:
            stop.set()
            await task


async def statuses(database: Database) -> list[str]:
    return [row[0] for row in await query(database, "SELECT status FROM webhook_deliveries ORDER BY event_seq, id")]


def all_are(database: Database, *wanted: str) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        return await statuses(database) == list(wanted)

    return check


async def execute(database: Database, sql: str) -> None:
    await query(database, f"WITH done AS ({sql} RETURNING 1) SELECT count(*) FROM done")


async def attempted(database: Database, outcome: Outcome, limit: int = 100) -> list[int]:
    """Claim what is due, record `outcome` for each, and say which events those were."""
    async with database.begin() as tx:
        claims = await claim_deliveries(tx, room(limit))
    if claims:
        async with database.begin() as tx:
            assert None not in await record_attempts(tx, [(claim, outcome) for claim in claims], half)
    return sorted(claim.event.seq for claim in claims if claim.event is not None)
