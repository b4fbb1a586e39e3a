"""What once let somebody in is asked again while a stream is open: keys that were revoked, tokens that have ended."""

from __future__ import annotations

import time

import jwt
import msgspec
import pytest

from service.commands.api_keys import revoke_api_key
from service.domain.errors import Unauthenticated
from service.handlers.authentication import TRUSTED_SECONDS, Authenticator
from service.handlers.tokens import LEEWAY_SECONDS
from service.store.engine import Database


@pytest.fixture
async def away():
    """A database that is not there."""
    database = Database("postgresql://postgres@/none?host=/nonexistent", connections_max=1)
    await database.open()
    yield database
    await database.close()


def token_of(settings, tenant, ends):
    claims = {"sub": "ada", "tenant": tenant, "scope": "sessions:read", "exp": ends}
    claims |= {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
    return f"Bearer {jwt.encode(claims, settings.jwt_secret, algorithm='HS256')}"


async def test_a_key_holds_until_it_is_revoked(settings, database, api, tenant, make_key):
    secret = await make_key(tenant, "sessions:read", name="watcher")
    authenticator = Authenticator(settings, database)
    credential = await authenticator.credential_of(f"Bearer {secret}", None)
    held = await authenticator.still_holds(credential)
    (key,) = [key for key in (await api.get("/api-keys")).json()["data"] if key["name"] == "watcher"]

    async with database.begin() as tx:
        authenticator.distrust(await revoke_api_key(tx, key["id"], tenant_id=tenant))

    assert held
    assert not await authenticator.still_holds(credential)
    with pytest.raises(Unauthenticated):
        await authenticator.credential_of(f"Bearer {secret}", None)
    assert TRUSTED_SECONDS == 1.0


async def test_a_token_holds_until_it_has_ended(settings, database, tenant):
    authenticator = Authenticator(settings, database)
    credential = await authenticator.credential_of(token_of(settings, tenant, time.time() + 60), None)
    over = msgspec.structs.replace(credential, ends=time.time() - LEEWAY_SECONDS - 1)

    assert await authenticator.still_holds(credential)
    assert not await authenticator.still_holds(over)


async def test_while_postgresql_is_away_a_key_holds(settings, database, away, tenant, make_key):
    credential = await Authenticator(settings, database).credential_of(f"Bearer {await make_key(tenant)}", None)

    assert await Authenticator(settings, away).still_holds(credential)
