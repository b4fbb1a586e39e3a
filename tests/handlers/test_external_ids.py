"""A caller's own names for sessions: each belongs to a user, and is free again once its session has ended."""

from __future__ import annotations

import asyncio

import pytest

WISH = {"agent_id": "a", "external_id": "order-4711"}
RETURNING = WISH | {"if_exists": "return"}


@pytest.fixture
async def mallory(app, tenant, make_key, client_of):
    async with client_of(app, await make_key(tenant, user="mallory")) as client:
        client.base_url = "http://holdfast.test/api/v1"
        yield client


async def test_thirty_creates_with_one_external_id_make_one_session(api):
    wish = {"agent_id": "agent", "external_id": "ticket-1", "if_exists": "return"}

    answers = await asyncio.gather(*(api.post("/sessions", json=wish) for _ in range(30)))

    assert sorted(answer.status_code for answer in answers) == [200] * 29 + [201]
    assert len({answer.content for answer in answers}) == 1
    assert {answer.headers["etag"] for answer in answers} == {'"1"'}
    assert ["location" in answer.headers for answer in answers if answer.status_code == 200] == [False] * 29


async def test_a_user_cannot_take_a_name_that_is_used_for_another_user(api, mallory):
    squatted = (await mallory.post("/sessions", json=WISH | {"activate": True})).json()

    answer = await api.post("/sessions", json=RETURNING | {"user_id": "victim", "activate": True})
    session = answer.json()
    said = await api.post(f"/sessions/{session['id']}/messages", json={"content": "my card is 4111"})
    again = await api.post("/sessions", json=RETURNING | {"user_id": "victim"})

    assert (answer.status_code, session["user_id"], said.status_code) == (201, "victim", 201)
    assert session["id"] != squatted["id"]
    assert (again.status_code, again.json()["id"]) == (200, session["id"])
    assert (await mallory.get(f"/sessions/{squatted['id']}/messages")).json()["data"] == []
    assert (await mallory.get(f"/sessions/{session['id']}")).status_code == 404


async def test_a_session_that_its_user_opened_first_is_not_handed_out_in_place_of_a_stricter_one(api, mallory):
    opened = (await mallory.post("/sessions", json=WISH)).json()
    strict = {"approval_tools": ["refund*"], "blocked_tools": ["rm_*"], "approval_timeout_seconds": 60}
    wanted = RETURNING | {"user_id": "mallory", "config": strict}

    refused = await api.post("/sessions", json=wanted)
    await api.patch(f"/sessions/{opened['id']}", json={"config": strict | {"blocked_tools": ["rm_*", "dd"]}})
    tightened = await api.post("/sessions", json=wanted)

    assert refused.status_code == 409
    assert refused.json()["code"] == "already_exists"
    for field in strict:
        assert f"'{field}'" in refused.json()["detail"]
    assert (tightened.status_code, tightened.json()["id"]) == (200, opened["id"])


@pytest.mark.parametrize("if_exists", ["error", "return"])
async def test_no_answer_tells_that_another_user_has_the_name(api, mallory, if_exists):
    await api.post("/sessions", json=WISH | {"user_id": "victim"})

    taken = await mallory.post("/sessions", json=WISH | {"if_exists": if_exists})
    free = await mallory.post("/sessions", json=WISH | {"external_id": "free", "if_exists": if_exists})

    assert (
        (taken.status_code, taken.json()["user_id"]) == (free.status_code, free.json()["user_id"]) == (201, "mallory")
    )
    assert sorted(taken.headers) == sorted(free.headers)
    assert set(taken.json()) == set(free.json())


async def test_a_name_is_taken_by_a_living_session_of_the_same_user_of_the_same_tenant(
    api, app, client_of, make_key, mallory
):
    first = await api.post("/sessions", json=WISH | {"user_id": "mallory"})

    refused = [
        await api.post("/sessions", json=WISH | {"user_id": "mallory"}),
        await mallory.post("/sessions", json=WISH),
    ]
    found = await mallory.post("/sessions", json=RETURNING)
    async with client_of(app, await make_key("another-tenant-of-names", user="mallory")) as other:
        elsewhere = await other.post("/api/v1/sessions", json=RETURNING)

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(409, "already_exists")] * 2
    assert {answer.json()["detail"] for answer in refused} == {
        "A session of this user with this external_id exists already; send if_exists=return to get it."
    }
    assert (found.status_code, found.json()["id"]) == (200, first.json()["id"])
    assert elsewhere.json()["id"] != first.json()["id"]


async def test_without_a_user_the_name_belongs_to_the_key(api, app, tenant, make_key, client_of):
    first = (await api.post("/sessions", json=RETURNING)).json()
    same = (await api.post("/sessions", json=RETURNING)).json()
    async with client_of(app, await make_key(tenant, name="other-service")) as other:
        others = (await other.post("/api/v1/sessions", json=RETURNING)).json()

    assert (first["user_id"], others["user_id"]) == ("service", "other-service")
    assert same["id"] == first["id"] != others["id"]


async def test_a_name_is_free_again_once_its_session_has_ended(api):
    first = (await api.post("/sessions", json=WISH)).json()
    await api.delete(f"/sessions/{first['id']}")

    second = await api.post("/sessions", json=RETURNING)
    found = await api.post("/sessions", json=RETURNING)

    assert (second.status_code, second.json()["status"]) == (201, "created")
    assert (found.status_code, found.json()["id"]) == (200, second.json()["id"])


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
async def test_a_name_is_free_from_the_moment_at_which_its_sessions_time_is_over(
    api, open_session, let_expire, headers
):
    session = await open_session(**WISH)
    path = f"/sessions/{session['id']}"
    asking = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t", "requires_approval": True}]}
    await api.post(f"{path}/messages", json=asking)
    await let_expire(session["id"])

    answer = await api.post("/sessions", json=RETURNING, headers=headers)
    events = [event["type"] for event in (await api.get(f"{path}/events")).json()["data"]]

    assert (answer.status_code, answer.json()["id"] == session["id"]) == (201, False)
    assert events[-2:] == ["tool_call.cancelled", "session.expired"]
    assert (await api.get(path)).json()["end_reason"] == "expired"


async def test_a_listing_by_name_finds_those_of_all_users_that_the_caller_may_see(api, mallory):
    of_victim = (await api.post("/sessions", json=WISH | {"user_id": "victim"})).json()
    own = (await mallory.post("/sessions", json=WISH)).json()
    await mallory.delete(f"/sessions/{own['id']}")
    newer = (await mallory.post("/sessions", json=WISH)).json()

    found = (await api.get("/sessions", params={"external_id": "order-4711"})).json()["data"]
    seen = (await mallory.get("/sessions", params={"external_id": "order-4711"})).json()["data"]

    assert [session["id"] for session in found] == [newer["id"], own["id"], of_victim["id"]]
    assert [session["id"] for session in seen] == [newer["id"], own["id"]]
