"""`/api-keys` (scope `admin`): make, list, revoke the keys of one's tenant; a user's credentials, only its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody
from msgspec import Meta

from service.commands import api_keys as commands
from service.domain.api_key import DEFAULT_SCOPES, ApiKey, KeyName
from service.domain.caller import Scope
from service.domain.errors import ApiKeyNotFound
from service.domain.session import UserId
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
from service.store import api_keys as store

LIFETIME_DAYS_MAX = 3650
"""Ten years: longer is the same as never, which is said by leaving it out."""


class CreateApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new key for the caller's tenant; with `user_id` it acts as that user and sees that user's sessions only.

    A user makes keys for itself alone, which end no later than the credentials that make them.
    """

    name: KeyName
    user_id: UserId | None = None
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=len(Scope))] = msgspec.field(
        default_factory=lambda: list(DEFAULT_SCOPES)
    )
    expires_in_days: Annotated[int, Meta(ge=1, le=LIFETIME_DAYS_MAX)] | None = None


class CreatedApiKey(msgspec.Struct, frozen=True):
    """A new key with its secret, which is shown this once."""

    api_key: ApiKey
    secret: str


@post("/api-keys", before_request=requires(Scope.ADMIN), status_code=201, operation_id="createApiKey")
async def create_api_key(request: HoldfastRequest, data: JSONBody[CreateApiKey]) -> Response[CreatedApiKey]:
    """Make an API key. The secret is in this answer and nowhere else.

    A service makes keys of its tenant and of every user. A user makes keys that act as itself, with `user_id` left out
    or its own; left out, `expires_in_days` is as long as the user's own credentials last, and longer is refused.
    """
    credential = credential_of(request)
    wish = commands.KeyWish(
        tenant_id=credential.caller.tenant_id,
        name=data.name,
        user_id=data.user_id,
        scopes=data.scopes,
        lifetime=None if data.expires_in_days is None else timedelta(days=data.expires_in_days),
        created_by=credential_of(request).name,
    )

    async def effect(tx: Any) -> Answer:
        key, secret = await commands.create_api_key_for(tx, credential, wish, datetime.now(UTC))
        return Answer.of(CreatedApiKey(key, secret), status=201, headers=NO_STORE, changed=False)

    return await write(request, effect)


@get("/api-keys", before_request=requires(Scope.ADMIN), operation_id="listApiKeys")
async def list_api_keys(
    request: HoldfastRequest, limit: Limit = PAGE_ROWS_DEFAULT, cursor: CursorText = None
) -> Response[Page[ApiKey]]:
    """List the tenant's keys, newest first; their secrets are not known to anybody but their owners.

    To a user, those that act as that user.
    """
    tenant_id, user_id = caller_of(request).tenant_id, caller_of(request).sees_user
    listing = fingerprint("api-keys", tenant_id, user_id)
    before_id = None if cursor is None else read_cursor(cursor, listing, UUID)
    async with reading(request) as tx:
        rows = await store.page(tx, tenant_id, user_id=user_id, before_id=before_id, limit=limit + 1)
    page = page_of(rows, limit, listing, lambda key: key.id)
    return respond(page)


@delete(
    "/api-keys/{key_id:str}",
    before_request=requires(Scope.ADMIN),
    status_code=204,
    opt={REFUSALS: [ApiKeyNotFound]},
    operation_id="revokeApiKey",
)
async def revoke_api_key(request: HoldfastRequest, key_id: FromPath[str]) -> Response[None]:
    """Revoke a key: within one second no process takes it any more. Revoking it again changes nothing."""
    wanted, credential = identifier(key_id, ApiKeyNotFound), credential_of(request)
    revoked: list[bytes] = []

    async def effect(tx: Any) -> Answer:
        caller = credential.caller
        digest = await commands.revoke_api_key(
            tx, wanted, tenant_id=caller.tenant_id, user_id=caller.sees_user, revoked_by=credential.name
        )
        revoked.append(digest)
        return Answer(status=204, changed=False)

    response = await write(request, effect)
    parts_of(request).authenticator.distrust(revoked[-1])
    return response


HANDLERS = [create_api_key, list_api_keys, revoke_api_key]
