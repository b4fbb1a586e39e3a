"""What can be done with API keys: create one, revoke one."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from service.domain.api_key import (
    HINT_CHARACTERS,
    ApiKey,
    digest,
    new_secret,
    refuse_longer_life,
    refuse_wider_scopes,
    user_of_new_key,
)
from service.domain.caller import CallerKind, Scope
from service.domain.errors import ApiKeyNotFound
from service.domain.ticket import Credential
from service.ids import new_id
from service.store import api_keys as store
from service.store.engine import Tx


class KeyWish(msgspec.Struct, frozen=True, kw_only=True):
    """What a new key is to stand for; `lifetime` None: it never expires, or with `ends` at that moment."""

    tenant_id: str
    name: str
    user_id: str | None
    scopes: list[Scope]
    lifetime: timedelta | None
    created_by: str | None = None
    ends: datetime | None = None


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
            ends=wish.ends,
        ),
    )
    return key, secret


async def create_api_key_for(tx: Tx, credential: Credential, wish: KeyWish, now: datetime) -> tuple[ApiKey, str]:
    """Make a key at the wish of a caller; a user's is its own, and neither wider nor longer-lived than its credentials.

    Raises:
        InvalidRequest: a user asks for another one's key, or for one that outlives its credentials.
        InsufficientScope: the key would have a scope that the caller lacks.
    """
    caller = credential.caller
    user_id = user_of_new_key(caller, wish.user_id)
    refuse_wider_scopes(caller, wish.scopes)
    ends = await _end_of(tx, credential) if caller.kind is CallerKind.USER else None
    refuse_longer_life(wish.lifetime, ends, now)
    return await create_api_key(tx, msgspec.structs.replace(wish, user_id=user_id, ends=ends))


async def _end_of(tx: Tx, credential: Credential) -> datetime | None:
    if credential.key_digest is None:
        return credential.token_ends_at
    return await store.end_of(tx, credential.key_digest)


async def revoke_api_key(
    tx: Tx, key_id: UUID, *, tenant_id: str | None, user_id: str | None = None, revoked_by: str | None = None
) -> bytes:
    """Make a key useless; the digest of its secret.

    `tenant_id` None: the operator's own command, any tenant. `user_id`: only if the key acts as that user.

    Raises:
        ApiKeyNotFound: there is no such key.
    """
    revoked = await store.revoke(tx, key_id, tenant_id, user_id=user_id, revoked_by=revoked_by)
    if revoked is None:
        raise ApiKeyNotFound
    return revoked


async def note_uses(tx: Tx, seconds_ago: dict[UUID, float]) -> None:
    """Keep when keys were used last; each at most once in five minutes."""
    await store.note_uses(tx, seconds_ago)
