"""How an event gets to its endpoints: made by the relay, attempted by a worker, recorded; cancelled or sent again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from service.domain.caller import Caller
from service.domain.delivery import TEST_TYPE, Delivery, DeliveryStatus, Outcome, Verdict, verdict_on
from service.domain.errors import DeliveryNotFound, Fault, InvalidRequest, WebhookDisabled, WebhookNotFound
from service.domain.event import Actor, Cause
from service.domain.webhook import Ordering, Webhook, wants
from service.domain.work import Queue
from service.encoding import encode
from service.ids import new_id
from service.store import attempts, deliveries, delivery_pages, webhooks
from service.store.attempts import Health, Record
from service.store.deliveries import Claim, Room, Wanted
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


async def claim_deliveries(tx: Tx, room: Room) -> list[Claim]:
    """Deliveries to attempt now, under leases; nothing has been recorded in this transaction."""
    await deliveries.lead_claims(tx)
    return await deliveries.claim(tx, room)


async def record_and_claim(
    tx: Tx, made: Sequence[tuple[Claim, Outcome]], chance: Callable[[], float], room: Room
) -> tuple[list[Verdict | None], list[Claim]]:
    """Both at once, so that what one attempt makes room for is claimed in the same transaction."""
    verdicts = await record_attempts(tx, made, chance)
    return verdicts, await deliveries.claim(tx, room) if room.attempts else []


async def record_attempts(
    tx: Tx, made: Sequence[tuple[Claim, Outcome]], chance: Callable[[], float]
) -> list[Verdict | None]:
    """Record what came of attempts, in their order, and what follows.

    None: that claim was lost, or the attempt is recorded already, and nothing changed.

    `chance` gives numbers from 0 to 1, which make the jitter of the next waits.
    """
    failing_seconds = await attempts.hold(tx, [held for held, _ in made])
    has_failed = set(failing_seconds)
    records = []
    for held, outcome in made:
        if outcome.is_success:
            failing_seconds.pop(held.endpoint_id, None)
        verdict = verdict_on(
            outcome,
            attempts=held.attempt,
            chance=chance(),
            failing_for=timedelta(seconds=failing_seconds.get(held.endpoint_id, 0.0)),
            is_test=held.test_event is not None,
        )
        records.append(Record(held, outcome, verdict))
    recorded = await attempts.record(tx, records)
    healths = _healths([one for one in records if one.held.delivery_id in recorded])
    changed = [health for health in healths if health.is_bad or health.endpoint_id in has_failed]
    if changed:
        await attempts.note_health(tx, changed)
    return [one.verdict if one.held.delivery_id in recorded else None for one in records]


def _healths(records: list[Record]) -> list[Health]:
    """What attempts say of their endpoints, each taken together."""
    healths: dict[UUID, Health] = {}
    for one in records:
        health = healths.setdefault(one.held.endpoint_id, Health(one.held.endpoint_id))
        health.is_bad = not one.outcome.is_success
        health.was_good = health.was_good or one.outcome.is_success
        health.disables = health.disables or one.verdict.disables
    return list(healths.values())


async def drop_purged(tx: Tx, held: Claim) -> None:
    """Forget a delivery whose session was purged while the relay was making it."""
    await attempts.hold(tx, [held])
    await attempts.drop(tx, held)


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
    tx: Tx,
    caller: Caller,
    webhook_id: UUID,
    *,
    since: datetime,
    statuses: list[DeliveryStatus],
    ended_before: datetime | None = None,
) -> int:
    """Send again what was made since a time and has ended in one of `statuses`, the oldest first; how many.

    What is sent again ends later than `ended_before`, so the same request never chooses it a second time.

    Raises:
        InvalidRequest: `ended_before` is yet to come.
        WebhookNotFound: the tenant has no such endpoint.
        WebhookDisabled: nothing is sent to it.
    """
    webhook = await _locked(tx, caller, webhook_id)
    if ended_before is not None and ended_before > await deliveries.moment(tx):
        raise InvalidRequest([Fault("body.ended_before", "Must not be in the future")])
    count = await delivery_pages.redeliver_since(
        tx, webhook_id, since=since, statuses=statuses, ended_before=ended_before, limit=REDELIVERED_MAX
    )
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
