"""API keys in the store: live ones are callers, all others are nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from conversations import query

from service.commands.api_keys import KeyWish, create_api_key, revoke_api_key
from service.domain.api_key import ApiKey, digest
from service.domain.caller import Caller, CallerKind, Scope
from service.domain.errors import NotFound
from service.ids import new_id
from service.store import api_keys
from service.store.engine import Database


async def made(
    database: Database, tenant: str, *, lifetime: timedelta | None = None, user_id: str | None = None
) -> tuple[ApiKey, str]:
    wish = KeyWish(tenant_id=tenant, name="agent", user_id=user_id, scopes=[Scope.SESSIONS_READ], lifetime=lifetime)
    async with database.begin() as tx:
        return await create_api_key(tx, wish)


async def found(database: Database, secret: str) -> Caller | None:
    async with database.connect() as tx:
        credential = await api_keys.find(tx, digest(secret))
    return None if credential is None else credential.caller


async def revoked(database: Database, key: ApiKey, tenant: str | None) -> bytes:
    async with database.begin() as tx:
        return await revoke_api_key(tx, key.id, tenant_id=tenant)


async def test_a_key_without_a_user_is_a_service_named_as_the_key(database: Database, tenant: str):
    _, secret = await made(database, tenant)

    assert await found(database, secret) == Caller(
        tenant_id=tenant, subject="agent", kind=CallerKind.SERVICE, scopes=frozenset({Scope.SESSIONS_READ})
    )


async def test_the_secret_is_nowhere_in_the_database(database: Database, tenant: str):
    key, secret = await made(database, tenant)
    (row,) = await query(database, "SELECT to_jsonb(k)::text AS text, digest FROM api_keys k WHERE id = $1", key.id)

    assert row["digest"] == digest(secret)
    assert secret not in row["text"]
    assert secret.encode().hex() not in row["text"]
    assert key.hint == secret[-4:]


async def test_an_expired_key_is_not_found_from_that_very_moment(database: Database, tenant: str):
    key, secret = await made(database, tenant, lifetime=timedelta(minutes=1))
    assert await found(database, secret) is not None

    await query(database, "UPDATE api_keys SET expires_at = statement_timestamp() WHERE id = $1", key.id)

    assert await found(database, secret) is None


async def test_a_lifetime_counts_from_the_making(database: Database, tenant: str):
    key, _ = await made(database, tenant, lifetime=timedelta(days=90))

    assert key.expires_at == key.created_at + timedelta(days=90)


async def test_a_revoked_key_is_not_found_and_stays_revoked_since_the_first_time(database: Database, tenant: str):
    key, secret = await made(database, tenant)

    assert await revoked(database, key, tenant) == digest(secret)
    assert await found(database, secret) is None
    (first,) = await query(database, "SELECT revoked_at FROM api_keys WHERE id = $1", key.id)
    assert await revoked(database, key, tenant) == digest(secret)
    assert await query(database, "SELECT revoked_at FROM api_keys WHERE id = $1", key.id) == [first]


async def test_another_tenants_key_cannot_be_revoked_but_the_operator_can_revoke_any(database: Database, tenant: str):
    key, secret = await made(database, tenant)

    with pytest.raises(NotFound):
        await revoked(database, key, f"{tenant}-other")
    assert await found(database, secret) is not None
    await revoked(database, key, None)
    assert await found(database, secret) is None


async def test_an_unknown_secret_and_an_unknown_key_are_nobodys(database: Database, tenant: str):
    assert await found(database, "hf_unknown") is None
    with pytest.raises(NotFound):
        async with database.begin() as tx:
            await revoke_api_key(tx, new_id(), tenant_id=tenant)
