"""What a caller may not see does not exist, on every route, whoever asks (API 1).

The routes, their scopes and their bodies are read from the OpenAPI document, so that later ones fall under it by
themselves.
"""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

import httpx2
import jwt
import msgspec
import pytest
from document_requests import RANDOM_ID, Operation, conversation, operations

from service.domain.caller import Scope

OPERATIONS = operations()
GUARDED = [operation for operation in OPERATIONS if operation.scopes]
OPEN_TO_ALL = {"isAlive", "isReady", "metrics"}
ADMIN = Scope.ADMIN.value

MALFORMED_IDS = [
    "x",
    "%7B{id}%7D",
    "{id}%20",
    "%20{id}",
    "{id}%00",
    "%00",
    "{id}0",
    "{hex}",
    "a" * 3000,
    "%F0%9F%91%A9",
]


def each(chosen: list[Operation]) -> Any:
    return pytest.mark.parametrize("operation", chosen, ids=[operation.id for operation in chosen])


class Caller(msgspec.Struct, frozen=True):
    """Somebody with every scope, and what is theirs."""

    client: httpx2.AsyncClient
    ids: dict[str, str]


@pytest.fixture
async def owner(app, tenant, make_key, client_of):
    """A service of the tenant; its conversation is the user's u1."""
    async with client_of(app, await make_key(tenant)) as client:
        yield Caller(client, await conversation(client, user_id="u1"))


@pytest.fixture
async def other_user(app, tenant, make_key, client_of):
    async with client_of(app, await make_key(tenant, user="u2")) as client:
        yield Caller(client, await conversation(client))


@pytest.fixture
async def other_tenant(app, make_key, client_of):
    async with client_of(app, await make_key(f"another-{uuid4().hex}")) as client:
        yield Caller(client, await conversation(client))


@pytest.fixture
async def callers(owner, other_user, other_tenant):
    return {"owner": owner, "other_user": other_user, "other_tenant": other_tenant}


@pytest.fixture
async def ours(owner):
    return owner.ids


async def state_of(owner: Caller) -> list[dict[str, Any]]:
    """All that a stranger could have changed; `last_used_at` is noted behind the owner's own answers."""
    path = f"/api/v1/sessions/{owner.ids['session_id']}"
    lists = (
        path,
        f"{path}/messages",
        f"{path}/tool-calls",
        f"{path}/attachments",
        f"{path}/events",
        "/api/v1/api-keys",
        "/api/v1/webhooks",
        f"/api/v1/webhooks/{owner.ids['webhook_id']}/deliveries",
    )
    answers = [(await owner.client.get(address)).json() for address in lists]
    return [json.loads(json.dumps(answer), object_hook=without_last_use) for answer in answers]


def without_last_use(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "last_used_at"}


def faceless(answer: httpx2.Response) -> tuple[int, str, list[str]]:
    """All of an answer that a caller can tell apart, without the two members that may differ."""
    headers = sorted(set(answer.headers) - {"content-length"})
    if answer.request.method == "HEAD":
        return answer.status_code, "", headers
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["request_id"] == answer.headers["x-request-id"]
    visible = {name: value for name, value in document.items() if name not in {"instance", "request_id"}}
    return answer.status_code, json.dumps(visible), headers


async def test_the_document_names_the_routes_that_are_open_to_all():
    assert {operation.id for operation in OPERATIONS if not operation.scopes} == OPEN_TO_ALL
    assert len(GUARDED) >= 23


@each([operation for operation in OPERATIONS if not operation.streams])
async def test_whoever_may_is_served(operation: Operation, owner: Caller):
    """Or the refusals below would prove nothing: the very same requests work for their owner."""
    answer = await operation.call(owner.client, owner.ids)

    # What stands in the way now, and is told to nobody else: a move from here, a file that is not processed yet.
    assert answer.is_success or answer.status_code == 409, (
        f"{operation.id} refused a request made from the document: let `document_requests.py` make a better one. "
        f"{answer.status_code} {answer.text}"
    )


@each([operation for operation in OPERATIONS if operation.streams])
async def test_whoever_may_is_streamed_to(operation: Operation, owner: Caller):
    """Beyond the checks of who asks: a stream that begins behind the last event of all is refused for that alone.

    What streams to whom is held on real servers (`tests/e2e/test_streams.py`): here an answer comes when it has ended.
    """
    path = operation.path.replace("{session_id}", owner.ids.get("session_id", ""))
    beyond = {"after_seq": "9999"} if operation.names else {"cursor": "x"}

    answer = await owner.client.get(path, params=beyond)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


@each(OPERATIONS)
async def test_without_a_credential_there_is_nothing_but_401(operation: Operation, app, client_of, owner: Caller):
    async with client_of(app) as nobody, client_of(app, "hf_unknown") as stranger, client_of(app, "a.b.c") as forger:
        for client in (nobody, stranger, forger):
            for ids in (owner.ids, dict.fromkeys(owner.ids, RANDOM_ID), dict.fromkeys(owner.ids, "x")):
                answer = await operation.call(client, ids)

                if operation.scopes:
                    assert answer.status_code == 401
                    assert answer.headers["www-authenticate"] == "Bearer"
                    assert operation.method == "HEAD" or answer.json()["code"] == "unauthenticated"
                else:
                    assert answer.status_code == 200


@each(GUARDED)
async def test_without_its_scope_there_is_nothing_but_403(
    operation: Operation, app, tenant, make_key, client_of, owner: Caller
):
    lacking = {scope.value for scope in Scope} - {*operation.scopes, ADMIN}
    assert lacking
    for held in sorted(lacking):
        async with client_of(app, await make_key(tenant, held)) as client:
            for ids in (owner.ids, dict.fromkeys(owner.ids, RANDOM_ID), dict.fromkeys(owner.ids, "x")):
                answer = await operation.call(client, ids)

                assert answer.status_code == 403, held
                if operation.method != "HEAD":
                    assert answer.json()["code"] == "insufficient_scope"
                    assert answer.json()["required_scope"] in operation.scopes


@each([operation for operation in GUARDED if not operation.streams])
async def test_one_of_its_scopes_or_all_that_it_names_is_enough(
    operation: Operation, app, tenant, make_key, client_of, owner: Caller
):
    """Which one is for what is held in `test_scopes.py`."""
    served = []
    for held in ([scope] for scope in operation.scopes) if not operation.purposes else [list(operation.purposes)]:
        async with client_of(app, await make_key(tenant, *held)) as client:
            served.append((await operation.call(client, owner.ids)).status_code not in {401, 403})

    assert any(served)


@pytest.mark.parametrize(
    ("operation", "who"),
    [
        pytest.param(operation, who, id=f"{operation.id}-{who}")
        for operation in GUARDED
        for who in ("other_user", "other_tenant")
        if operation.names and (operation.belongs_to_a_user or who == "other_tenant")
    ],
)
async def test_what_is_somebody_elses_is_not_there(operation: Operation, who: str, callers: dict[str, Caller]):
    owner, stranger = callers["owner"], callers[who]
    before = await state_of(owner)

    theirs = await operation.call(stranger.client, owner.ids)
    nowhere = await operation.call(stranger.client, dict.fromkeys(owner.ids, RANDOM_ID))

    assert theirs.status_code == 404
    assert faceless(theirs) == faceless(nowhere)
    assert await state_of(owner) == before


@each([operation for operation in GUARDED if len(operation.names) > 1])
@pytest.mark.parametrize("who", ["owner", "other_user", "other_tenant"])
async def test_what_is_somebody_elses_is_not_in_ones_own_session(
    operation: Operation, who: str, callers: dict[str, Caller]
):
    caller = callers[who]
    *_, last = operation.names

    answers = [
        await operation.call(caller.client, caller.ids | {last: wrong})
        for wrong in (
            RANDOM_ID,
            str(uuid4()),
            *(other.ids[last] for other in callers.values() if other is not caller),
            *malformed(caller.ids[last]),
        )
    ]

    assert {answer.status_code for answer in answers} == {404}
    assert len({str(faceless(answer)) for answer in answers}) == 1


@each([operation for operation in GUARDED if operation.names])
async def test_an_id_that_cannot_be_one_is_not_there_either(operation: Operation, owner: Caller):
    first, *_ = operation.names
    nowhere = await operation.call(owner.client, dict.fromkeys(owner.ids, RANDOM_ID))

    for wrong in malformed(owner.ids[first]):
        assert faceless(await operation.call(owner.client, owner.ids | {first: wrong})) == faceless(nowhere), wrong


def malformed(id_: str) -> list[str]:
    """Texts that are almost, or not at all, the id."""
    return [form.replace("{id}", id_).replace("{hex}", id_.replace("-", "")) for form in MALFORMED_IDS]


@each([operation for operation in GUARDED if not operation.names and not operation.streams])
@pytest.mark.parametrize("who", ["other_user", "other_tenant"])
async def test_what_is_somebody_elses_is_in_no_listing(operation: Operation, who: str, callers: dict[str, Caller]):
    owner, stranger = callers["owner"], callers[who]
    # Webhooks belong to the tenant as a whole.
    shared = {owner.ids[name] for name in ("webhook_id", "delivery_id")} if who == "other_user" else set()
    before = await state_of(owner)

    answer = await operation.call(stranger.client, {})

    assert answer.status_code < 500
    assert not [id_ for id_ in {*owner.ids.values()} - shared if id_ in answer.text]
    if operation.method == "GET":
        assert await state_of(owner) == before


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


async def test_a_user_cannot_erase_by_writing(app, settings, tenant, client_of, ours, api):
    async with client_of(app, token_of(settings, tenant, "u1")) as user:
        answer = await user.delete(f"/api/v1/sessions/{ours['session_id']}", params={"mode": "purge"})

    assert answer.status_code == 403
    assert (await api.get(f"/sessions/{ours['session_id']}")).status_code == 200
