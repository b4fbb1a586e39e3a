"""`/webhooks` (scope `webhooks:manage`): endpoints and their secrets.

Endpoints are the tenant's, as API keys are: whoever holds the scope sees all of them, a user's credentials, too.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET, UnsetType

from service.commands import webhooks as commands
from service.domain.address import is_public
from service.domain.caller import Scope
from service.domain.errors import (
    DomainError,
    Fault,
    InvalidReference,
    InvalidRequest,
    WebhookLimitExceeded,
    WebhookNotFound,
)
from service.domain.webhook import Description, EventTypes, Ordering, Url, Webhook, destination_of, fault_of_url
from service.handlers.answer_headers import NO_STORE
from service.handlers.authentication import caller_of, credential_of, requires
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
from service.handlers.identifiers import identifier
from service.handlers.openapi import REFUSALS
from service.handlers.parts import parts_of
from service.handlers.writing import Answer, write
from service.resolver import NotAsked
from service.store import webhooks as store


class CreateWebhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new endpoint. An empty `event_types` wants all events of the tenant."""

    url: Url
    event_types: EventTypes = []
    description: Description | None = None
    ordering: Ordering = Ordering.SESSION
    disabled: bool = False


class ChangeWebhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Absent keeps; null deletes the description."""

    url: Url | UnsetType = UNSET
    event_types: EventTypes | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    ordering: Ordering | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


class WebhookWithSecret(msgspec.Struct, frozen=True):
    """An endpoint with its secret, which is shown this once."""

    webhook: Webhook
    secret: str


@post(
    "/webhooks",
    before_request=requires(Scope.WEBHOOKS_MANAGE),
    status_code=201,
    opt={REFUSALS: [WebhookLimitExceeded, InvalidReference]},
    operation_id="createWebhook",
)
async def create_webhook(request: HoldfastRequest, data: JSONBody[CreateWebhook]) -> Response[WebhookWithSecret]:
    """Make an endpoint. The secret is in this answer and nowhere else.

    Every event of the tenant that it wants is sent to it, signed as [Standard Webhooks](https://www.standardwebhooks.com)
    say. A URL that leads to an address that is not public is refused with 422 `invalid_reference`.
    """
    refusal = await _refusal_of_url(request, data.url)
    wish = commands.WebhookWish(
        tenant_id=caller_of(request).tenant_id,
        url=data.url,
        event_types=data.event_types,
        description=data.description,
        ordering=data.ordering,
        disabled=data.disabled,
        created_by=credential_of(request).name,
    )

    async def effect(tx: Any) -> Answer:
        if refusal is not None:  # only here: a repeated request gets its first answer, whatever the name means by now
            raise refusal
        webhook, secret = await commands.create_webhook(tx, wish, parts_of(request).seals)
        return Answer.of(WebhookWithSecret(webhook, secret), status=201, headers=NO_STORE, changed=False)

    return await write(request, effect)


@get("/webhooks", before_request=requires(Scope.WEBHOOKS_MANAGE), operation_id="listWebhooks")
async def list_webhooks(
    request: HoldfastRequest, limit: Limit = PAGE_ROWS_DEFAULT, cursor: CursorText = None
) -> Response[Page[Webhook]]:
    """List the tenant's endpoints, newest first; their secrets are known to nobody but their receivers."""
    tenant_id = caller_of(request).tenant_id
    listing = fingerprint("webhooks", tenant_id)
    before_id = None if cursor is None else read_cursor(cursor, listing, UUID)
    async with reading(request) as tx:
        rows = await store.page(tx, tenant_id, before_id=before_id, limit=limit + 1)
    return respond(page_of(rows, limit, listing, lambda webhook: webhook.id))


@get(
    "/webhooks/{webhook_id:str}",
    before_request=requires(Scope.WEBHOOKS_MANAGE),
    opt={REFUSALS: [WebhookNotFound]},
    operation_id="getWebhook",
)
async def get_webhook(request: HoldfastRequest, webhook_id: FromPath[str]) -> Response[Webhook]:
    """Read one endpoint."""
    wanted = identifier(webhook_id, WebhookNotFound)
    async with reading(request) as tx:
        webhook = await store.get(tx, caller_of(request).tenant_id, wanted)
    if webhook is None:
        raise WebhookNotFound
    return respond(webhook)


@patch(
    "/webhooks/{webhook_id:str}",
    before_request=requires(Scope.WEBHOOKS_MANAGE),
    opt={REFUSALS: [WebhookNotFound, InvalidReference]},
    operation_id="changeWebhook",
)
async def change_webhook(
    request: HoldfastRequest, webhook_id: FromPath[str], data: JSONBody[ChangeWebhook]
) -> Response[Webhook]:
    """Change an endpoint.

    While it is disabled, no deliveries are made for it, and those that wait are cancelled within seconds.
    """
    wanted, tenant_id = identifier(webhook_id, WebhookNotFound), caller_of(request).tenant_id
    if data.url is not UNSET and (refusal := await _refusal_of_url(request, data.url)) is not None:
        raise refusal
    change = store.Change(
        url=None if data.url is UNSET else data.url,
        event_types=None if data.event_types is UNSET else data.event_types,
        keeps_description=data.description is UNSET,
        description=None if data.description is UNSET else data.description,
        ordering=None if data.ordering is UNSET else data.ordering,
        disabled=None if data.disabled is UNSET else data.disabled,
    )

    async def effect(tx: Any) -> Answer:
        return Answer.of(await commands.change_webhook(tx, tenant_id, wanted, change), status=200, changed=False)

    return await write(request, effect)


@delete(
    "/webhooks/{webhook_id:str}",
    before_request=requires(Scope.WEBHOOKS_MANAGE),
    status_code=204,
    opt={REFUSALS: [WebhookNotFound]},
    operation_id="deleteWebhook",
)
async def delete_webhook(request: HoldfastRequest, webhook_id: FromPath[str]) -> Response[None]:
    """Delete an endpoint with its deliveries. An attempt that is on its way is not called back."""
    wanted, tenant_id = identifier(webhook_id, WebhookNotFound), caller_of(request).tenant_id

    async def effect(tx: Any) -> Answer:
        await commands.delete_webhook(tx, tenant_id, wanted)
        return Answer(status=204, changed=False)

    return await write(request, effect)


@post(
    "/webhooks/{webhook_id:str}/rotate-secret",
    before_request=requires(Scope.WEBHOOKS_MANAGE),
    status_code=200,
    opt={REFUSALS: [WebhookNotFound]},
    operation_id="rotateWebhookSecret",
)
async def rotate_webhook_secret(request: HoldfastRequest, webhook_id: FromPath[str]) -> Response[WebhookWithSecret]:
    """Give an endpoint a new secret. For 24 hours every delivery is signed with both, the new one first."""
    wanted, tenant_id = identifier(webhook_id, WebhookNotFound), caller_of(request).tenant_id

    async def effect(tx: Any) -> Answer:
        webhook, secret = await commands.rotate_secret(tx, tenant_id, wanted, parts_of(request).seals)
        return Answer.of(WebhookWithSecret(webhook, secret), status=200, headers=NO_STORE, changed=False)

    return await write(request, effect)


async def _refusal_of_url(request: HoldfastRequest, url: str) -> DomainError | None:
    """What a URL that is badly written, or leads inward, is refused with. No transaction waits for its look-up.

    One whose name nobody knows yet, or that nobody could be asked for, is looked at when it is called.
    """
    allows_private = parts_of(request).settings.webhook_allow_private
    fault = fault_of_url(url, allows_private=allows_private)
    if fault is not None:
        return InvalidRequest([Fault("body.url", fault)])
    if allows_private:
        return None
    destination = destination_of(url)
    try:
        addresses = await parts_of(request).resolver.resolve(destination.host, destination.port)
    except NotAsked:
        return None
    if all(map(is_public, addresses)):
        return None
    return InvalidReference(
        "The URL leads to an address that is not public; only an operator can allow that.",
        errors=[Fault("body.url", "Leads to an address that is not public")],
    )


HANDLERS = [
    create_webhook,
    list_webhooks,
    get_webhook,
    change_webhook,
    delete_webhook,
    rotate_webhook_secret,
]
