"""What can be done with webhook endpoints: make one, change it, give it a new secret, delete it."""

from __future__ import annotations

from uuid import UUID

import msgspec

from service.domain.errors import WebhookLimitExceeded, WebhookNotFound
from service.domain.event import EventType
from service.domain.webhook import WEBHOOKS_MAX, Ordering, Webhook, new_secret
from service.ids import new_id
from service.seals import Seals, place_of_webhook
from service.store import delivery_pages
from service.store import webhooks as store
from service.store.engine import Tx
from service.store.webhooks import Change


class WebhookWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a new endpoint is to be; its URL has been looked at."""

    tenant_id: str
    url: str
    event_types: list[EventType]
    description: str | None
    ordering: Ordering
    disabled: bool
    created_by: str | None = None


async def create_webhook(tx: Tx, wish: WebhookWish, seals: Seals) -> tuple[Webhook, str]:
    """Make an endpoint; its secret is returned here and never again, and stored sealed.

    Raises:
        WebhookLimitExceeded: the tenant has as many as it may.
    """
    if await store.count(tx, wish.tenant_id) >= WEBHOOKS_MAX:
        raise WebhookLimitExceeded
    webhook_id, secret = new_id(), new_secret()
    sealed = seals.seal_text(place_of_webhook(wish.tenant_id, webhook_id), secret)
    webhook = await store.add(tx, store.NewWebhook(id=webhook_id, secret=sealed, **msgspec.structs.asdict(wish)))
    return webhook, secret


async def change_webhook(tx: Tx, tenant_id: str, webhook_id: UUID, wanted: Change) -> Webhook:
    """Change an endpoint. Once it is enabled again, what still waits for it goes on.

    Raises:
        WebhookNotFound: the tenant has no such endpoint.
    """
    await store.hold(tx, webhook_id)
    webhook = await store.change(tx, tenant_id, webhook_id, wanted)
    if webhook is None:
        raise WebhookNotFound
    if wanted.disabled is False or wanted.ordering is not None:
        await delivery_pages.let_go(tx, webhook_id, in_order=webhook.ordering is Ordering.SESSION)
    return webhook


async def rotate_secret(tx: Tx, tenant_id: str, webhook_id: UUID, seals: Seals) -> tuple[Webhook, str]:
    """Give an endpoint a new secret; the one before signs, too, for a day. An even older one does not any more.

    Raises:
        WebhookNotFound: the tenant has no such endpoint.
    """
    secret = new_secret()
    sealed = seals.seal_text(place_of_webhook(tenant_id, webhook_id), secret)
    webhook = await store.rotate(tx, tenant_id, webhook_id, sealed)
    if webhook is None:
        raise WebhookNotFound
    return webhook, secret


async def delete_webhook(tx: Tx, tenant_id: str, webhook_id: UUID) -> None:
    """Delete an endpoint with its deliveries.

    Raises:
        WebhookNotFound: the tenant has no such endpoint.
    """
    if not await store.delete(tx, tenant_id, webhook_id):
        raise WebhookNotFound
