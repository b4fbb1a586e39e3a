"""How an event gets to its endpoints: made by the relay, attempted by a worker, recorded; cancelled or sent again."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from service.domain.caller import Caller
from service.domain.delivery import TEST_TYPE, Delivery, DeliveryStatus, Outcome, Verdict, verdict_on
from service.domain.errors import DeliveryNotFound, WebhookDisabled, WebhookNotFound
from service.domain.event import Actor, Cause
from service.domain.webhook import Ordering, Webhook, wants
from service.domain.work import Queue
from service.encoding import encode
from service.ids import new_id
from service.store import deliveries, delivery_pages, webhooks
from service.store.deliveries import Claim, Wanted
from service.store.engine import Tx
from service.store.outbox import OutboxRow

REDELIVERED_MAX = 10_000
"""By one request: a second of PostgreSQL's time. The answer says when there are more."""


async def make_deliveries(tx: Tx, rows: list[OutboxRow]) -> Queue | None:
    """Each event is sent to the endpoints of its tenant that want it. Where nobody listens this is one small read."""
    listening = await webhooks.listening(tx, sorted({row.tenant_id for row in rows}))
    wanted = [
        Wanted(new_id(), listener.id, row.session_id, row.event_seq, listener.ordering == Ordering.NONE)
        for row in rows
        for listener in listening
        if listener.tenant_id == row.tenant_id and wants(listener.event_types, row.event_type)
    ]
    if not wanted:
        return None
    await webhooks.hold_lanes(tx, [(one.endpoint_id, one.session_id) for one in wanted])
    await deliveries.make(tx, wanted)
    return Queue.WEBHOOKS


async def claim_deliveries(tx: Tx, limit: int) -> list[Claim]:
    """At most `limit` deliveries to attempt now, under leases."""
    return await deliveries.claim(tx, limit)


async def record_attempt(tx: Tx, held: Claim, outcome: Outcome, chance: float) -> Verdict | None:
    """Record what came of an attempt, and what follows; None: the claim was lost, and nothing has changed.

    `chance` is from 0 to 1, and makes the jitter of the next wait.
    """
    health = await webhooks.hold_for_record(tx, held.endpoint_id, held.session_id)
    if health is None:
        return None
    verdict = verdict_on(
        outcome,
        attempts=held.attempt,
        chance=chance,
        failing_for=timedelta(seconds=health.failing_seconds),
        is_test=held.test_event is not None,
    )
    if not await deliveries.record(tx, held, outcome, verdict.status, verdict.retry_seconds):
        return None
    if not outcome.is_success:
        await webhooks.fail(tx, held.endpoint_id, verdict.disables)
    elif health.is_failing:
        await webhooks.recover(tx, held.endpoint_id)
    return verdict


async def drop_purged(tx: Tx, held: Claim) -> None:
    """Forget a delivery whose session was purged while the relay was making it."""
    await webhooks.hold_for_record(tx, held.endpoint_id, held.session_id)
    await deliveries.drop(tx, held)


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """What a test sends: like an event in every field, but of no session."""

    id: UUID
    type: str = TEST_TYPE
    session_id: None = None
    seq: None = None
    occurred_at: datetime
    actor: Actor
    request_id: str | None
    data: dict[str, UUID]


async def send_test(tx: Tx, caller: Caller, webhook_id: UUID, cause: Cause) -> Delivery:
    """Send a `webhook.test` to an endpoint, once.

    Raises:
        WebhookNotFound: the tenant has no such endpoint.
        WebhookDisabled: nothing is sent to it.
    """
    await _locked(tx, caller, webhook_id)
    event = Ping(
        id=new_id(),
        occurred_at=await deliveries.moment(tx),
        actor=cause.actor,
        request_id=cause.request_id,
        data={"webhook_id": webhook_id},
    )
    return await delivery_pages.add_test(
        tx,
        delivery_id=new_id(),
        tenant_id=caller.tenant_id,
        endpoint_id=webhook_id,
        event_id=event.id,
        event_type=TEST_TYPE,
        test_event=encode(event),
    )


async def redeliver(tx: Tx, caller: Caller, webhook_id: UUID, delivery_id: UUID | None) -> Delivery:
    """Send a delivery again, with the same `webhook-id`: a finished one from its first attempt on, a waiting one now.

    Raises:
        WebhookNotFound, DeliveryNotFound: the tenant has no such endpoint, or that no such delivery.
        WebhookDisabled: nothing is sent to it.
    """
    webhook = await _found(tx, caller, webhook_id)
    found = None if delivery_id is None else await delivery_pages.lock(tx, webhook_id, delivery_id)
    if found is None:
        raise DeliveryNotFound
    _refuse_if_disabled(webhook)
    delivery, is_flying = found
    if delivery.status is not DeliveryStatus.PENDING:
        await delivery_pages.redeliver(tx, delivery.id)
        await delivery_pages.let_go(tx, webhook_id, in_order=webhook.ordering is Ordering.SESSION)
    elif not is_flying:
        await delivery_pages.hasten(tx, delivery.id)
    return await delivery_pages.get(tx, delivery.id)


async def redeliver_since(
    tx: Tx, caller: Caller, webhook_id: UUID, *, since: datetime, statuses: list[DeliveryStatus]
) -> int:
    """Send again what was made since a time and has ended in one of `statuses`, the oldest first; how many.

    Raises:
        WebhookNotFound: the tenant has no such endpoint.
        WebhookDisabled: nothing is sent to it.
    """
    webhook = await _locked(tx, caller, webhook_id)
    count = await delivery_pages.redeliver_since(tx, webhook_id, since=since, statuses=statuses, limit=REDELIVERED_MAX)
    if count:
        await delivery_pages.let_go(tx, webhook_id, in_order=webhook.ordering is Ordering.SESSION)
    return count


async def _locked(tx: Tx, caller: Caller, webhook_id: UUID) -> Webhook:
    webhook = await _found(tx, caller, webhook_id)
    _refuse_if_disabled(webhook)
    return webhook


async def _found(tx: Tx, caller: Caller, webhook_id: UUID) -> Webhook:
    await webhooks.hold(tx, webhook_id)
    webhook = await webhooks.get(tx, caller.tenant_id, webhook_id)
    if webhook is None:
        raise WebhookNotFound
    return webhook


def _refuse_if_disabled(webhook: Webhook) -> None:
    if webhook.disabled:
        raise WebhookDisabled(current_status="disabled", disabled_reason=webhook.disabled_reason)
