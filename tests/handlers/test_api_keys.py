"""POST, GET and DELETE of /api-keys, and what a key opens (API 1 and 8)."""

from __future__ import annotations

import hashlib
import re

import jwt
import pytest
from issuers import claims

from service.domain.errors import Unavailable

SECRET = re.compile(r"hf_[A-Za-z0-9]{43}")


@pytest.fixture
def status_with(app, client_of):
    """`await status_with(secret)`: what the listing of sessions answers to that credential."""

    async def status(secret):
        async with client_of(app, secret) as client:
            return (await client.get("/api/v1/sessions")).status_code

    return status


async def test_a_key_is_shown_once_and_stored_as_a_digest(api, sql, tenant, status_with):
    answer = await api.post("/api-keys", json={"name": "agent"})

    made, secret = answer.json()["api_key"], answer.json()["secret"]
    assert answer.status_code == 201
    assert SECRET.fullmatch(secret)
    assert list(made) == [
        "id", "name", "user_id", "scopes", "hint", "created_at", "expires_at", "revoked_at",
        "created_by", "revoked_by", "last_used_at",
    ]  # fmt: skip
    assert (made["name"], made["user_id"]) == ("agent", None)
    assert made["scopes"] == ["sessions:read", "sessions:write", "sessions:act"]
    assert (made["expires_at"], made["revoked_at"], made["hint"]) == (None, None, secret[-4:])
    assert await status_with(secret) == 200
    assert secret not in (await api.get("/api-keys")).text
    rows = await sql("SELECT api_keys::text AS row, digest FROM api_keys WHERE tenant_id = :tenant", tenant=tenant)
    assert hashlib.sha256(secret.encode()).digest() in [row["digest"] for row in rows]
    assert not [row for row in rows if secret[3:-4] in row["row"]]


async def test_a_key_opens_what_its_scopes_say(api, app, client_of, open_session):
    session = await open_session()
    wish = {"name": "reader", "scopes": ["sessions:read"], "expires_in_days": 1}
    secret = (await api.post("/api-keys", json=wish)).json()["secret"]

    async with client_of(app, secret) as reader:
        read = await reader.get(f"/api/v1/sessions/{session['id']}")
        written = await reader.patch(f"/api/v1/sessions/{session['id']}", json={"title": "x"})
        listed = await reader.get("/api/v1/api-keys")

    assert (read.status_code, read.json()) == (200, session)
    assert (written.status_code, written.json()["required_scope"]) == (403, "sessions:write")
    assert (listed.status_code, listed.json()["required_scope"]) == (403, "admin")


async def test_a_revoked_key_stops_at_once(api, status_with):
    answer = (await api.post("/api-keys", json={"name": "agent"})).json()
    assert await status_with(answer["secret"]) == 200

    revoked = [await api.delete(f"/api-keys/{answer['api_key']['id']}") for _ in range(2)]

    assert [(response.status_code, response.content) for response in revoked] == [(204, b"")] * 2
    assert await status_with(answer["secret"]) == 401
    (listed, *_) = (await api.get("/api-keys")).json()["data"]
    assert (listed["id"], listed["revoked_at"] is None) == (answer["api_key"]["id"], False)


async def test_keys_of_another_tenant_are_not_found_and_not_listed(api, app, make_key, client_of, status_with):
    async with client_of(app, await make_key("tenant-of-keys-elsewhere")) as other:
        elsewhere = (await other.post("/api/v1/api-keys", json={"name": "theirs"})).json()

    answer = await api.delete(f"/api-keys/{elsewhere['api_key']['id']}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert await status_with(elsewhere["secret"]) == 200
    assert elsewhere["api_key"]["id"] not in (await api.get("/api-keys")).text


async def test_keys_are_listed_newest_first_and_page_by_page(api):
    made = [(await api.post("/api-keys", json={"name": f"k{n}"})).json()["api_key"] for n in range(7)]
    found, cursor = [], None
    while True:
        page = (await api.get("/api-keys", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))).json()
        found += page["data"]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert found[:7] == made[::-1]
    assert len(found) == 8  # and the one that this test calls with


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "body.name"),
        ({"name": ""}, "body.name"),
        ({"name": "x" * 201}, "body.name"),
        ({"name": "x", "scopes": []}, "body.scopes"),
        ({"name": "x", "scopes": ["root"]}, "body.scopes[0]"),
        ({"name": "x", "scopes": ["admin"] * 7}, "body.scopes"),
        ({"name": "x", "expires_in_days": 0}, "body.expires_in_days"),
        ({"name": "x", "expires_in_days": 3651}, "body.expires_in_days"),
        ({"name": "x", "expires_in_days": True}, "body.expires_in_days"),
        ({"name": "x", "user_id": ""}, "body.user_id"),
        ({"name": "x", "tenant_id": "other"}, "body.tenant_id"),
        ({"name": "x", "secret": "hf_mine"}, "body.secret"),
        ({"name": "x", "digest": "x"}, "body.digest"),
    ],
)
async def test_a_wish_that_cannot_be_met_is_refused(api, body, path):
    answer = await api.post("/api-keys", json=body)

    assert (answer.status_code, [fault["path"] for fault in answer.json()["errors"]]) == (400, [path])
    assert len((await api.get("/api-keys")).json()["data"]) == 1


async def test_a_key_for_a_user_acts_as_that_user(api, app, client_of, open_session):
    await open_session(user_id="u2")
    secret = (await api.post("/api-keys", json={"name": "x", "user_id": "u1"})).json()["secret"]

    async with client_of(app, secret) as user:
        opened = (await user.post("/api/v1/sessions", json={"agent_id": "a"})).json()
        listed = (await user.get("/api/v1/sessions")).json()["data"]

    assert opened["user_id"] == "u1"
    assert listed == [opened]


async def test_a_key_says_who_made_and_who_revoked_it(api, app, client_of, settings, tenant):
    (own,) = (await api.get("/api-keys")).json()["data"]
    token = jwt.encode(claims(tenant=tenant, sub="root", scope="admin"), settings.jwt_secret, algorithm="HS256")
    async with client_of(app, token) as user:
        made = (await user.post("/api/v1/api-keys", json={"name": "agent"})).json()["api_key"]
    await api.delete(f"/api-keys/{made['id']}")
    async with client_of(app, token) as user:
        await user.delete(f"/api/v1/api-keys/{made['id']}")  # again, by another: the first one has done it

    revoked, _ = (await api.get("/api-keys")).json()["data"]
    assert (made["created_by"], made["revoked_by"]) == ("user:root", None)
    assert (revoked["created_by"], revoked["revoked_by"]) == ("user:root", f"key:{own['id']}")


async def test_a_key_says_when_it_was_used_last_and_that_is_written_once_in_five_minutes(api, app, sql, status_with):
    made = (await api.post("/api-keys", json={"name": "agent"})).json()
    uses, key_id = app.app.state.parts.authenticator.uses, made["api_key"]["id"]

    async def used_at():
        assert await status_with(made["secret"]) == 200
        await uses.write()
        return next(key["last_used_at"] for key in (await api.get("/api-keys")).json()["data"] if key["id"] == key_id)

    async def let_pass(minutes):
        await sql(
            "UPDATE api_keys SET last_used_at = last_used_at - make_interval(mins => CAST(:minutes AS int))"
            " WHERE id = CAST(:id AS uuid)",
            id=key_id,
            minutes=minutes,
        )

    first, again = await used_at(), await used_at()
    app.app.state.parts.authenticator._trusted.clear()  # so that it is looked up, and noted, once more
    await let_pass(4)
    soon = await used_at()
    app.app.state.parts.authenticator._trusted.clear()
    await let_pass(2)
    later = await used_at()

    assert made["api_key"]["last_used_at"] is None
    assert first == again
    assert first > made["api_key"]["created_at"]
    assert soon < first < later


async def test_uses_that_postgresql_does_not_take_are_written_later(app, api, monkeypatch, own_app):
    async with own_app() as own:
        uses = own.edge.app.state.parts.authenticator.uses
        await own.api.get("/sessions")
        with monkeypatch.context() as away:
            away.setattr("service.handlers.key_uses.note_uses", unavailable)
            await uses.write()
        before = await own.sql("SELECT last_used_at FROM api_keys")
        await uses.write()
        after = await own.sql("SELECT last_used_at FROM api_keys")

    assert [row["last_used_at"] for row in before] == [None]
    assert None not in [row["last_used_at"] for row in after]


async def unavailable(*_):
    raise Unavailable
