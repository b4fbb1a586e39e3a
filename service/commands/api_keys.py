"""What can be done with API keys: create one, revoke one."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import msgspec

from service.domain.api_key import HINT_CHARACTERS, ApiKey, digest, new_secret
from service.domain.caller import Scope
from service.domain.errors import ApiKeyNotFound
from service.ids import new_id
from service.store import api_keys as store
from service.store.engine import Tx


class KeyWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a new key is to stand for; `lifetime` None: it never expires."""

    tenant_id: str
    name: str
    user_id: str | None
    scopes: list[Scope]
    lifetime: timedelta | None
    created_by: str | None = None


async def create_api_key(tx: Tx, wish: KeyWish, secret: str | None = None) -> tuple[ApiKey, str]:
    """Make a key; the secret is returned here and never again."""
    secret = secret or new_secret()
    key = await store.add(
        tx,
        store.NewKey(
            id=new_id(),
            tenant_id=wish.tenant_id,
            name=wish.name,
            user_id=wish.user_id,
            scopes=wish.scopes,
            digest=digest(secret),
            hint=secret[-HINT_CHARACTERS:],
            lifetime=wish.lifetime,
            created_by=wish.created_by,
        ),
    )
    return key, secret


async def revoke_api_key(tx: Tx, key_id: UUID, *, tenant_id: str | None, revoked_by: str | None = None) -> bytes:
    """Make a key useless; the digest of its secret. `tenant_id` None: the operator's own command, any tenant.

    Raises:
        ApiKeyNotFound: the tenant has no such key.
    """
    revoked = await store.revoke(tx, key_id, tenant_id, revoked_by)
    if revoked is None:
        raise ApiKeyNotFound
    return revoked


async def note_uses(tx: Tx, seconds_ago: dict[UUID, float]) -> None:
    """Keep when keys were used last; each at most once in five minutes."""
    await store.note_uses(tx, seconds_ago)
