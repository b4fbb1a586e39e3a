"""Idempotency-Key: one effect and one answer, on every POST (API 1)."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from eventually import DEADLINE_SECONDS

ROUTES = ["create", "append", "batch", "activate", "suspend", "resume", "tool-call", "tool-message", "api-keys"]


@pytest.fixture
def post_to(api, open_session):
    """`await post_to("append")`: a path and two bodies of a POST route that is ready to be called."""

    async def about_a_call(path, *, by_message):
        asked = {"tool_name": "t", "requires_approval": not by_message}
        message = {"role": "assistant", "content": "", "tool_calls": [asked]}
        call = (await api.post(f"{path}/messages", json=message)).json()["tool_calls"][0]
        told = {"role": "tool", "tool_call_id": call["id"]}
        if by_message:
            return f"{path}/messages", told | {"content": "a"}, told | {"content": "b"}
        return f"{path}/tool-calls/{call['id']}", {"action": "approve"}, {"action": "reject"}

    async def ready(route):
        if route == "create":
            return "/sessions", {"agent_id": "a"}, {"agent_id": "b"}
        if route == "api-keys":
            return "/api-keys", {"name": "a"}, {"name": "b"}
        session = await open_session(activate=route != "activate")
        path = f"/sessions/{session['id']}"
        if route == "append":
            return f"{path}/messages", {"content": "a"}, {"content": "b"}
        if route == "batch":
            return f"{path}/messages/batch", {"messages": [{"content": "a"}]}, {"messages": [{"content": "b"}]}
        if route in {"tool-call", "tool-message"}:
            return await about_a_call(path, by_message=route == "tool-message")
        if route == "resume":
            await api.post(f"{path}/suspend")
        return f"{path}/{route}", None, {}

    return ready


async def effects(api, tenant, sql):
    """How much there is: every effect of a POST shows in one of these numbers."""
    (counts,) = await sql(
        """SELECT (SELECT count(*) FROM sessions WHERE tenant_id = :tenant) AS sessions,
                  (SELECT count(*) FROM messages WHERE tenant_id = :tenant) AS messages,
                  (SELECT count(*) FROM events WHERE tenant_id = :tenant) AS events,
                  (SELECT count(*) FROM api_keys WHERE tenant_id = :tenant) AS keys""",
        tenant=tenant,
    )
    return dict(counts)


@pytest.mark.parametrize("route", ROUTES)
async def test_a_repeated_request_gets_the_first_answer_and_has_no_second_effect(api, tenant, sql, post_to, route):
    path, body, _ = await post_to(route)
    headers = {"Idempotency-Key": "key-1"}
    first = await api.post(path, json=body, headers=headers)
    after_first = await effects(api, tenant, sql)

    again = [await api.post(path, json=body, headers=headers) for _ in range(2)]

    assert first.is_success
    assert "idempotent-replayed" not in first.headers
    for answer in again:
        assert (answer.status_code, answer.content) == (first.status_code, first.content)
        assert answer.headers["idempotent-replayed"] == "true"
        for header in ("etag", "location", "content-type"):
            assert answer.headers.get(header) == first.headers.get(header)
    assert await effects(api, tenant, sql) == after_first


@pytest.mark.parametrize("route", ROUTES)
async def test_another_body_under_the_same_key_is_refused(api, tenant, sql, post_to, route):
    path, body, other = await post_to(route)
    await api.post(path, json=body, headers={"Idempotency-Key": "key-1"})
    before = await effects(api, tenant, sql)

    answer = await api.post(path, json=other, headers={"Idempotency-Key": "key-1"})

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert await effects(api, tenant, sql) == before


@pytest.mark.parametrize("route", ROUTES)
async def test_ten_concurrent_requests_have_one_effect(api, tenant, sql, post_to, route):
    path, body, _ = await post_to(route)
    before = await effects(api, tenant, sql)

    answers = await asyncio.gather(
        *(api.post(path, json=body, headers={"Idempotency-Key": "key-1"}) for _ in range(10))
    )

    done = [answer for answer in answers if answer.is_success]
    assert len({(answer.status_code, answer.content) for answer in done}) == 1
    assert ["idempotent-replayed" in answer.headers for answer in done].count(False) == 1
    running = [answer for answer in answers if not answer.is_success]
    assert {(answer.status_code, answer.json()["code"]) for answer in running} <= {(409, "request_in_progress")}
    after = await effects(api, tenant, sql)
    assert all(after[name] - before[name] <= 2 for name in after)  # a new session is a row and up to two events
    assert after["sessions"] - before["sessions"] == (route == "create")
    assert after["messages"] - before["messages"] == (route in {"append", "batch", "tool-message"})
    assert after["keys"] - before["keys"] == (route == "api-keys")
    assert after["events"] - before["events"] == {"api-keys": 0, "tool-message": 2}.get(route, 1)


async def test_a_repetition_waits_for_the_first_request_and_gets_its_answer(own_app):
    headers = {"Idempotency-Key": "key-1"}
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with own_app() as own:
        session = (await own.api.post("/sessions", json={"agent_id": "a", "activate": True})).json()["id"]
        path = f"/sessions/{session}/messages"
        async with own.database.begin() as tx, asyncio.timeout(DEADLINE_SECONDS):
            # The session's row is held: the first request takes the key and waits for the row, the others for it.
            await tx._connection.fetch("SELECT FROM sessions WHERE id = $1 FOR UPDATE", session)
            requests = [
                asyncio.create_task(own.api.post(path, json={"content": "x"}, headers=headers)) for _ in range(3)
            ]
            # Asked on another connection: one transaction sees the same list of connections all the time.
            while (await own.sql(waiting))[0][0] < len(requests):  # noqa: ASYNC110 - a lock has no event to wait for
                await asyncio.sleep(0.01)
        answers = [await request for request in requests]
        listed = (await own.api.get(path)).json()["data"]

    assert [answer.status_code for answer in answers] == [201] * 3
    assert len({answer.content for answer in answers}) == 1
    assert sorted(answer.headers.get("idempotent-replayed", "") for answer in answers) == ["", "true", "true"]
    assert len(listed) == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [({"content": ""}, 400), ({"content": "x", "parent_id": str(uuid4())}, 422), ({"content": "x"}, 409)],
)
async def test_a_refusal_is_not_kept(api, open_session, body, status):
    session = await open_session(activate=False)
    if status != 409:
        await api.post(f"/sessions/{session['id']}/activate")
    path, headers = f"/sessions/{session['id']}/messages", {"Idempotency-Key": "key-1"}

    refused = [await api.post(path, json=body, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in refused] == [status] * 2
    if status == 409:
        await api.post(f"/sessions/{session['id']}/activate")
    answer = await api.post(path, json={"content": "x"}, headers=headers)
    assert (answer.status_code, answer.headers.get("idempotent-replayed")) == (201, None)


async def test_a_key_belongs_to_its_tenant_its_caller_and_its_route(
    app, api, tenant, make_key, client_of, open_session
):
    session, headers = await open_session(user_id="u1"), {"Idempotency-Key": "key-1"}
    path = f"/sessions/{session['id']}/messages"
    first = await api.post(path, json={"content": "x"}, headers=headers)

    async with client_of(app, await make_key(tenant, user="u1")) as user:
        by_user = await user.post(f"/api/v1{path}", json={"content": "x"}, headers=headers)
    async with client_of(app, await make_key(tenant, name="another")) as another:
        by_another = await another.post(f"/api/v1{path}", json={"content": "x"}, headers=headers)
    async with client_of(app, await make_key("tenant-of-another-key")) as other:
        elsewhere = await other.post("/api/v1/sessions", json={"agent_id": "a"}, headers=headers)
    other_route = await api.post("/sessions", json={"agent_id": "a"}, headers=headers)
    other_session = f"/sessions/{(await open_session())['id']}/messages"
    other_path = await api.post(other_session, json={"content": "x"}, headers=headers)

    answers = [first, by_user, by_another, elsewhere, other_route, other_path]
    assert [answer.status_code for answer in answers] == [201] * 6
    assert not any("idempotent-replayed" in answer.headers for answer in answers)
    assert [answer.json().get("seq") for answer in answers] == [1, 2, 3, None, None, 1]


async def test_another_key_of_the_same_service_is_the_same_caller(api, app, tenant, make_key, client_of, open_session):
    session = await open_session()
    path, headers = f"/sessions/{session['id']}/messages", {"Idempotency-Key": "key-1"}
    first = await api.post(path, json={"content": "x"}, headers=headers)

    async with client_of(app, await make_key(tenant)) as rotated:
        again = await rotated.post(f"/api/v1{path}", json={"content": "x"}, headers=headers)

    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")


@pytest.mark.parametrize("key", [b"", b" ", b"a b", b"k" * 256, "schlüssel".encode(), b"\xff", b"a\tb", b"\x7f"])
async def test_a_key_that_is_none_is_refused(api, tenant, sql, key):
    answer = await api.post("/sessions", json={"agent_id": "a"}, headers={"Idempotency-Key": key})

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "header.Idempotency-Key")
    assert (await effects(api, tenant, sql))["sessions"] == 0


@pytest.mark.parametrize("key", [b"!", b"~" * 255, b'"quoted"', b"a/b?c=d&e,f;g"])
async def test_any_visible_ascii_is_a_key(api, key):
    answers = [await api.post("/sessions", json={"agent_id": "a"}, headers={"Idempotency-Key": key}) for _ in range(2)]

    assert answers[0].content == answers[1].content


async def test_patch_and_delete_take_no_notice_of_a_key(api, open_session):
    session, headers = await open_session(), {"Idempotency-Key": "key-1"}
    path = f"/sessions/{session['id']}"

    titles = [(await api.patch(path, json={"title": title}, headers=headers)).json()["title"] for title in "ab"]
    deletions = [(await api.delete(path, headers=headers)).status_code for _ in range(2)]

    assert titles == ["a", "b"]
    assert deletions == [204, 204]


async def test_the_replay_shows_the_first_answer_even_if_the_world_went_on(api, open_session):
    session = await open_session(activate=False)
    path, headers = f"/sessions/{session['id']}/activate", {"Idempotency-Key": "key-1"}
    first = await api.post(path, headers=headers)
    await api.delete(f"/sessions/{session['id']}")

    again = await api.post(path, headers=headers)

    assert (again.status_code, again.content) == (200, first.content)
    assert (await api.get(f"/sessions/{session['id']}")).json()["status"] == "ended"


async def test_kept_answers_cannot_be_read_in_the_database(api, sql, tenant, open_session):
    session = await open_session()
    key = {"Idempotency-Key": "canary-of-the-key"}
    secret = (await api.post("/api-keys", json={"name": "canary-of-the-name"}, headers=key)).json()["secret"]
    draft = {"content": "canary-of-the-message", "metadata": {"m": "canary-of-the-metadata"}}
    await api.post(f"/sessions/{session['id']}/messages", json=draft, headers=key)

    rows = await sql("SELECT * FROM idempotency_keys WHERE tenant_id = :tenant", tenant=tenant)

    assert len(rows) == 2
    stored = b"".join(
        value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row.values()
    )
    assert b"canary" not in stored
    assert secret.encode() not in stored
    assert secret.removeprefix("hf_").encode() not in stored
