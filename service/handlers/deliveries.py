"""`/webhooks/{id}/deliveries` (scope `webhooks:manage`): what became of them, the dead letters, and sending again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta

from service.commands import deliveries as sending
from service.domain.caller import Scope
from service.domain.delivery import Delivery, DeliveryStatus
from service.domain.errors import (
    DeliveryNotFound,
    Fault,
    InvalidRequest,
    WebhookDisabled,
    WebhookNotFound,
)
from service.handlers.authentication import caller_of, requires
from service.handlers.bodies import HoldfastRequest
from service.handlers.connecting import reading
from service.handlers.cursors import (
    PAGE_ROWS_DEFAULT,
    CursorText,
    Limit,
    Page,
    fingerprint,
    page_of,
    read_cursor,
)
from service.handlers.encoding import respond
from service.handlers.identifiers import CANONICAL_UUID, identifier
from service.handlers.openapi import REFUSALS
from service.handlers.writing import Answer, cause_of, write
from service.store import delivery_pages
from service.store import webhooks as store


class RedeliverSince(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which deliveries to send again: made at or after `since`, ended in one of `statuses`, and before `ended_before`.

    With `succeeded` the latter is required: else what is sent again and taken would be chosen by the next request, too.
    """

    since: Annotated[datetime, Meta(tz=True)]
    statuses: Annotated[list[DeliveryStatus], Meta(min_length=1, max_length=len(DeliveryStatus))] = msgspec.field(
        default_factory=lambda: [DeliveryStatus.FAILED, DeliveryStatus.CANCELLED]
    )
    ended_before: Annotated[datetime, Meta(tz=True)] | None = None


class Redelivered(msgspec.Struct, frozen=True):
    """How many deliveries are sent again. `has_more`: as many as one request takes; ask the same again for the rest."""

    count: int
    has_more: bool


@post(
    "/webhooks/{webhook_id:str}/test",
    before_request=requires(Scope.WEBHOOKS_MANAGE),
    status_code=202,
    opt={REFUSALS: [WebhookNotFound, WebhookDisabled]},
    operation_id="testWebhook",
)
async def test_webhook(request: HoldfastRequest, webhook_id: FromPath[str]) -> Response[Delivery]:
    """Send a `webhook.test` to an endpoint, once: like an event, but of no session. Its delivery tells the end."""
    wanted, caller = identifier(webhook_id, WebhookNotFound), caller_of(request)

    async def effect(tx: Any) -> Answer:
        made = await sending.send_test(tx, caller, wanted, cause_of(request))
        return Answer.of(made, status=202)

    return await write(request, effect)


@get(
    "/webhooks/{webhook_id:str}/deliveries",
    before_request=requires(Scope.WEBHOOKS_MANAGE),
    opt={REFUSALS: [WebhookNotFound]},
    operation_id="listDeliveries",
)
async def list_deliveries(
    request: HoldfastRequest,
    webhook_id: FromPath[str],
    status: Annotated[
        DeliveryStatus | None, QueryParameter(description="Only these; `failed` are those given up.")
    ] = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    cursor: CursorText = None,
) -> Response[Page[Delivery]]:
    """Page through an endpoint's deliveries, newest first. Finished ones are kept for 30 days."""
    wanted, tenant_id = identifier(webhook_id, WebhookNotFound), caller_of(request).tenant_id
    listing = fingerprint("deliveries", wanted, status)
    before_id = None if cursor is None else read_cursor(cursor, listing, UUID)
    async with reading(request) as tx:
        if await store.get(tx, tenant_id, wanted) is None:
            raise WebhookNotFound
        rows = await delivery_pages.page(tx, wanted, status=status, before_id=before_id, limit=limit + 1)
    return respond(page_of(rows, limit, listing, lambda delivery: delivery.id))


@post(
    "/webhooks/{webhook_id:str}/deliveries/{delivery_id:str}/redeliver",
    before_request=requires(Scope.WEBHOOKS_MANAGE),
    status_code=202,
    opt={REFUSALS: [WebhookNotFound, DeliveryNotFound, WebhookDisabled]},
    operation_id="redeliver",
)
async def redeliver(
    request: HoldfastRequest, webhook_id: FromPath[str], delivery_id: FromPath[str]
) -> Response[Delivery]:
    """Send a delivery again, with the same `webhook-id`: a finished one anew, one that waits for a retry now."""
    wanted, caller = identifier(webhook_id, WebhookNotFound), caller_of(request)
    named = UUID(delivery_id) if CANONICAL_UUID.fullmatch(delivery_id) else None  # no such webhook goes before

    async def effect(tx: Any) -> Answer:
        return Answer.of(await sending.redeliver(tx, caller, wanted, named), status=202)

    return await write(request, effect)


@post(
    "/webhooks/{webhook_id:str}/redeliver",
    before_request=requires(Scope.WEBHOOKS_MANAGE),
    status_code=202,
    opt={REFUSALS: [WebhookNotFound, WebhookDisabled]},
    operation_id="redeliverSince",
)
async def redeliver_since(
    request: HoldfastRequest, webhook_id: FromPath[str], data: JSONBody[RedeliverSince]
) -> Response[Redelivered]:
    """Send again what was made since a time and was given up or cancelled, the oldest first, in order.

    With `ended_before` no delivery is sent again by more than one of several equal requests.
    """
    wanted, caller = identifier(webhook_id, WebhookNotFound), caller_of(request)
    if DeliveryStatus.PENDING in data.statuses:
        raise InvalidRequest([Fault("body.statuses", "Pending deliveries are on their way already")])
    if DeliveryStatus.SUCCEEDED in data.statuses and data.ended_before is None:
        raise InvalidRequest([Fault("body.ended_before", "Required with `succeeded`")])
    since = _in_utc(data.since, "body.since")
    ended_before = None if data.ended_before is None else _in_utc(data.ended_before, "body.ended_before")

    async def effect(tx: Any) -> Answer:
        count = await sending.redeliver_since(
            tx, caller, wanted, since=since, statuses=data.statuses, ended_before=ended_before
        )
        return Answer.of(Redelivered(count, has_more=count >= sending.REDELIVERED_MAX), status=202)

    return await write(request, effect)


def _in_utc(moment: datetime, place: str) -> datetime:
    """As PostgreSQL has it.

    Raises:
        InvalidRequest: in UTC it is in the year 0, or 10,000.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequest([Fault(place, "Must be in the years 1 to 9999 in UTC")]) from error


HANDLERS = [test_webhook, list_deliveries, redeliver, redeliver_since]
