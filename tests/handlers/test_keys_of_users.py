"""A user's credentials, whatever their scopes, make, list and revoke keys of that user alone."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import jwt
import pytest

from service.commands.api_keys import KeyWish, create_api_key
from service.domain.caller import Scope

TOKEN_SECONDS = 600


@pytest.fixture
def as_user(app, settings, tenant, database, client_of):
    """`async with as_user("token") as client`: the user ada with every scope, by a token or a key that ends."""

    async def secret_of(credential, lifetime):
        if credential == "token":
            claims = {"sub": "ada", "tenant": tenant, "scope": "admin", "exp": int(time.time()) + TOKEN_SECONDS}
            claims |= {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
            return jwt.encode(claims, settings.jwt_secret, algorithm="HS256")
        wish = KeyWish(tenant_id=tenant, name="of ada", user_id="ada", scopes=[Scope.ADMIN], lifetime=lifetime)
        async with database.begin() as tx:
            return (await create_api_key(tx, wish))[1]

    async def client(credential="key", lifetime=None):
        opened = client_of(app, await secret_of(credential, lifetime))
        opened.base_url = "http://holdfast.test/api/v1"
        return opened

    return client


@pytest.mark.parametrize("credential", ["token", "key"])
@pytest.mark.parametrize("wish", [{}, {"user_id": None}, {"user_id": "ada"}])
async def test_a_key_that_a_user_makes_acts_as_that_user(as_user, app, client_of, open_session, credential, wish):
    await open_session(user_id="bob")
    async with await as_user(credential) as ada:
        made = (await ada.post("/api-keys", json={"name": "x", "scopes": ["admin"]} | wish)).json()
    async with client_of(app, made["secret"]) as client:
        me = (await client.post("/api/v1/sessions", json={"agent_id": "a"})).json()
        seen = (await client.get("/api/v1/sessions")).json()["data"]

    assert (made["api_key"]["user_id"], me["user_id"]) == ("ada", "ada")
    assert [session["id"] for session in seen] == [me["id"]]


@pytest.mark.parametrize("credential", ["token", "key"])
async def test_a_user_makes_no_key_for_another_one(as_user, api, credential):
    before = (await api.get("/api-keys")).json()["data"]
    async with await as_user(credential) as ada:
        refused = await ada.post("/api-keys", json={"name": "x", "user_id": "bob"})

    assert (refused.status_code, refused.json()["errors"]) == (
        400,
        [{"path": "body.user_id", "message": "Only service keys make keys for others"}],
    )
    made = [key for key in (await api.get("/api-keys")).json()["data"] if key not in before]
    assert [key["name"] for key in made] == ([] if credential == "token" else ["of ada"])


@pytest.mark.parametrize("credential", ["token", "key"])
async def test_a_user_sees_and_revokes_its_own_keys_alone(as_user, api, app, client_of, credential):
    of_tenant = (await api.post("/api-keys", json={"name": "t"})).json()
    of_bob = (await api.post("/api-keys", json={"name": "b", "user_id": "bob"})).json()
    async with await as_user(credential) as ada:
        own = [(await ada.post("/api-keys", json={"name": f"own {n}"})).json()["api_key"] for n in range(3)]
        page = (await ada.get("/api-keys", params={"limit": 2})).json()
        rest = (await ada.get("/api-keys", params={"limit": 2, "cursor": page["next_cursor"]})).json()
        strangers = [await ada.delete(f"/api-keys/{made['api_key']['id']}") for made in (of_tenant, of_bob)]
        revoked = await ada.delete(f"/api-keys/{own[0]['id']}")
    listed = [key["id"] for key in (page["data"] + rest["data"]) if key["name"] != "of ada"]
    async with client_of(app, of_tenant["secret"]) as service:
        still = await service.get("/api/v1/sessions")

    assert listed == [key["id"] for key in reversed(own)]
    assert {(answer.status_code, answer.json()["code"]) for answer in strangers} == {(404, "not_found")}
    assert (revoked.status_code, still.status_code) == (204, 200)
    everything = (await api.get("/api-keys")).json()["data"]
    assert {of_tenant["api_key"]["id"], of_bob["api_key"]["id"]} <= {key["id"] for key in everything}


async def test_a_key_of_a_token_ends_with_the_token(as_user):
    async with await as_user("token") as ada:
        made = (await ada.post("/api-keys", json={"name": "x"})).json()["api_key"]
        longer = await ada.post("/api-keys", json={"name": "x", "expires_in_days": 1})

    ends = datetime.fromisoformat(made["expires_at"])
    assert timedelta(0) < ends - datetime.fromisoformat(made["created_at"]) <= timedelta(seconds=TOKEN_SECONDS)
    assert (longer.status_code, longer.json()["errors"][0]["path"]) == (400, "body.expires_in_days")


async def test_a_key_of_a_key_ends_no_later_than_that(as_user):
    async with await as_user(lifetime=timedelta(days=3)) as ada:
        (own,) = (await ada.get("/api-keys")).json()["data"]
        made = (await ada.post("/api-keys", json={"name": "x"})).json()["api_key"]
        shorter = (await ada.post("/api-keys", json={"name": "x", "expires_in_days": 2})).json()["api_key"]
        longer = await ada.post("/api-keys", json={"name": "x", "expires_in_days": 4})
    async with await as_user() as ada:
        endless = (await ada.post("/api-keys", json={"name": "x"})).json()["api_key"]

    ends = datetime.fromisoformat(own["expires_at"])
    assert datetime.fromisoformat(made["expires_at"]) == ends
    assert datetime.fromisoformat(shorter["expires_at"]) < ends
    assert (longer.status_code, longer.json()["errors"][0]["path"]) == (400, "body.expires_in_days")
    assert endless["expires_at"] is None


async def test_a_token_that_outlives_the_calendar_makes_a_key_without_end(app, settings, tenant, client_of):
    claims = {"sub": "ada", "tenant": tenant, "scope": "admin", "exp": 2**52}
    claims |= {"iss": settings.jwt_issuer, "aud": settings.jwt_audience}
    async with client_of(app, jwt.encode(claims, settings.jwt_secret, algorithm="HS256")) as ada:
        made = await ada.post("/api/v1/api-keys", json={"name": "x"})

    assert (made.status_code, made.json()["api_key"]["expires_at"]) == (201, None)
    assert datetime.fromisoformat(made.json()["api_key"]["created_at"]) <= datetime.now(UTC) + timedelta(minutes=1)
