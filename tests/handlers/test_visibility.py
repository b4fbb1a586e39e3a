"""What a caller may not see does not exist: every route with an id, read from the OpenAPI document (API 1)."""

from __future__ import annotations

import json
import time
from uuid import uuid4

import jwt
import pytest

RANDOM_ID = "019aabcd-0000-7abc-8def-0123456789ab"
MALFORMED_IDS = [
    "x",
    "%7B{id}%7D",
    "{ID}",
    "{id}%20",
    "%20{id}",
    "{id}%00",
    "%00",
    "{id}0",
    "{hex}",
    "a" * 3000,
    "%F0%9F%91%A9",
]
BODIES = {
    "createSession": {"agent_id": "a"},
    "changeSession": {"title": "changed"},
    "appendMessage": {"content": "x"},
    "appendMessages": {"messages": [{"content": "x"}]},
    "actOnToolCall": {"action": "start"},
    "createApiKey": {"name": "x"},
}
ASKING = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t", "requires_approval": True}]}


@pytest.fixture
async def operations(app, client_of):
    """Every operation of the document: its id, method, path and scope."""
    async with client_of(app) as client:
        document = (await client.get("/schema/openapi.json")).json()
    return [
        (operation["operationId"], method.upper(), path, operation.get("security"))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


@pytest.fixture
async def theirs(app, client_of, make_key):
    """A session, a message and a key of another tenant."""
    async with client_of(app, await make_key("another-tenant")) as other:
        session = (await other.post("/api/v1/sessions", json={"agent_id": "a", "activate": True})).json()
        path = f"/api/v1/sessions/{session['id']}"
        message = (await other.post(f"{path}/messages", json=ASKING)).json()
        key = (await other.post("/api/v1/api-keys", json={"name": "x"})).json()["api_key"]
        yield {
            "session_id": session["id"],
            "message_id": message["id"],
            "call_id": message["tool_calls"][0]["id"],
            "key_id": key["id"],
        }
        assert (await other.get(path)).json()["version"] == 2  # nobody has touched it


@pytest.fixture
async def ours(api, open_session):
    session = await open_session(user_id="u1")
    message = (await api.post(f"/sessions/{session['id']}/messages", json=ASKING)).json()
    return {
        "session_id": session["id"],
        "message_id": message["id"],
        "call_id": message["tool_calls"][0]["id"],
        "key_id": RANDOM_ID,
    }


def filled(path, ids):
    for name, value in ids.items():
        path = path.replace(f"{{{name}}}", value)
    return path


async def call(client, operation_id, method, path):
    body = BODIES.get(operation_id)
    return await client.request(method, path, **({} if body is None else {"json": body}))


def faceless(answer):
    """A problem document without the two members that may differ."""
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["request_id"] == answer.headers["x-request-id"]
    return json.dumps({name: value for name, value in document.items() if name not in {"instance", "request_id"}})


async def test_every_way_of_not_being_there_looks_the_same(app, tenant, make_key, client_of, operations, ours, theirs):
    with_ids = [entry for entry in operations if "{" in entry[2]]
    assert len(with_ids) >= 13
    async with (
        client_of(app, await make_key(tenant)) as service,
        client_of(app, await make_key(tenant, user="u2")) as user,
    ):
        for operation_id, method, path, _ in with_ids:
            names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
            last = names[-1]
            random = dict.fromkeys(names, RANDOM_ID)
            answers = [
                await call(service, operation_id, method, filled(path, random)),
                await call(service, operation_id, method, filled(path, theirs)),
                await call(user, operation_id, method, filled(path, ours)),
                await call(user, operation_id, method, filled(path, theirs)),
            ]
            for malformed in MALFORMED_IDS:
                wrong = malformed.replace("{id}", ours["session_id"]).replace("{ID}", ours["session_id"].upper())
                wrong = wrong.replace("{hex}", ours["session_id"].replace("-", ""))
                answers.append(await call(service, operation_id, method, filled(path, random | {names[0]: wrong})))
            if len(names) > 1:
                # The session is there, the message is not: its own 404, and again always the same.
                inner = [
                    await call(service, operation_id, method, filled(path, ours | {last: wrong}))
                    for wrong in (RANDOM_ID, theirs[last], "x", ours[last].upper(), "%00", str(uuid4()))
                ]
                assert {answer.status_code for answer in inner} == {404}
                assert len({faceless(answer) for answer in inner}) == 1

            assert {answer.status_code for answer in answers} == {404}, operation_id
            assert len({faceless(answer) for answer in answers}) == 1, operation_id
            assert len({tuple(sorted(set(answer.headers) - {"content-length"})) for answer in answers}) == 1


async def test_without_a_credential_every_route_is_401(app, client_of, operations, ours):
    open_to_all = {entry[0] for entry in operations if entry[3] is None}
    assert open_to_all == {"isAlive", "isReady", "metrics"}
    async with client_of(app) as nobody, client_of(app, "hf_unknown") as stranger:
        for operation_id, method, path, security in operations:
            for client in (nobody, stranger):
                for ids in (ours, dict.fromkeys(ours, "x")):
                    answer = await call(client, operation_id, method, filled(path, ids))
                    if security is None:
                        assert answer.status_code == 200
                    else:
                        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated"), operation_id
                        assert answer.headers["www-authenticate"] == "Bearer"


SCOPES = {
    "sessions:read": {
        "listSessions",
        "getSession",
        "listMessages",
        "getMessage",
        "listEvents",
        "listToolCalls",
        "getToolCall",
        "listInbox",
        "getContext",
    },
    "sessions:write": {
        "createSession",
        "changeSession",
        "endSession",
        "activateSession",
        "suspendSession",
        "resumeSession",
        "appendMessage",
        "appendMessages",
        "deleteMessage",
        "actOnToolCall",
    },
    "admin": {"createApiKey", "listApiKeys", "revokeApiKey"},
}


@pytest.mark.parametrize("held", ["sessions:read", "sessions:write", "tool_calls:decide", "webhooks:manage"])
async def test_without_its_scope_every_route_is_403(app, tenant, make_key, client_of, operations, ours, held):
    needed = {operation: scope for scope, ids in SCOPES.items() for operation in ids}
    assert needed.keys() == {entry[0] for entry in operations if entry[3] is not None}
    async with client_of(app, await make_key(tenant, held)) as client:
        for operation_id, method, path, _ in operations:
            scope = needed.get(operation_id)
            if scope in {None, held} or (operation_id, held) == ("actOnToolCall", "tool_calls:decide"):
                continue
            for ids in (ours, dict.fromkeys(ours, "x")):
                answer = await call(client, operation_id, method, filled(path, ids))
                assert (answer.status_code, answer.json()["code"]) == (403, "insufficient_scope"), operation_id
                assert answer.json()["required_scope"] == scope


async def test_refusals_come_in_a_fixed_order(app, tenant, make_key, client_of, ours):
    """Who you are, what you may, what you sent, what is there: nothing is told before the caller may know it."""
    path = f"/api/v1/sessions/{RANDOM_ID}/messages?x=1"
    bad = {"content": b"{", "headers": {"Content-Type": "text/plain"}}
    async with client_of(app) as nobody, client_of(app, await make_key(tenant, "sessions:read")) as reader:
        assert (await nobody.post(path, **bad)).status_code == 401
        assert (await reader.post(path, **bad)).status_code == 403
    async with client_of(app, await make_key(tenant)) as writer:
        assert (await writer.post(path, **bad)).status_code == 415
        assert (await writer.post(path, content=b"{", headers={"Content-Type": "application/json"})).status_code == 400
        assert (await writer.post(path.removesuffix("?x=1"), json={"content": "x"})).status_code == 404


def token_of(settings, tenant, user, scope="sessions:read sessions:write"):
    return jwt.encode(
        {
            "sub": user,
            "tenant": tenant,
            "scope": scope,
            "exp": time.time() + 600,
            "iss": settings.jwt_issuer,
            "aud": settings.jwt_audience,
        },
        settings.jwt_secret,
        algorithm="HS256",
    )


@pytest.mark.parametrize("credential", ["token", "key"])
async def test_a_user_sees_its_own_sessions_only(
    app, api, settings, tenant, make_key, client_of, credential, open_session
):
    secrets = {
        user: token_of(settings, tenant, user) if credential == "token" else await make_key(tenant, user=user)
        for user in ("u1", "u2")
    }
    of_service = await open_session()
    for_user = await open_session(user_id="u1")
    async with client_of(app, secrets["u1"]) as first, client_of(app, secrets["u2"]) as second:
        own = (await first.post("/api/v1/sessions", json={"agent_id": "a", "user_id": "u1"})).json()
        others = (await second.post("/api/v1/sessions", json={"agent_id": "a"})).json()

        listed = (await first.get("/api/v1/sessions")).json()["data"]
        asked_for_others = (await first.get("/api/v1/sessions", params={"user_id": "u2"})).json()["data"]
        refused = await first.post("/api/v1/sessions", json={"agent_id": "a", "user_id": "u2"})

    assert (own["user_id"], others["user_id"]) == ("u1", "u2")
    assert listed == [own, for_user]
    assert asked_for_others == []
    assert (refused.status_code, refused.json()["errors"][0]["path"]) == (400, "body.user_id")
    everything = (await api.get("/sessions")).json()["data"]
    assert [session["id"] for session in everything] == [others["id"], own["id"], for_user["id"], of_service["id"]]


async def test_a_user_cannot_take_over_a_session_by_its_external_id(app, tenant, make_key, client_of, open_session):
    await open_session(user_id="u1", external_id="ticket", title="private")

    async with client_of(app, await make_key(tenant, user="u2")) as user:
        answer = await user.post(
            "/api/v1/sessions", json={"agent_id": "a", "external_id": "ticket", "if_exists": "return"}
        )

    assert (answer.status_code, answer.json()["code"]) == (409, "already_exists")
    assert "private" not in answer.text


async def test_a_user_cannot_erase_by_writing(app, settings, tenant, client_of, ours, api):
    async with client_of(app, token_of(settings, tenant, "u1")) as user:
        answer = await user.delete(f"/api/v1/sessions/{ours['session_id']}", params={"mode": "purge"})

    assert answer.status_code == 403
    assert (await api.get(f"/sessions/{ours['session_id']}")).status_code == 200
