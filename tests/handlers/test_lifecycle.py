"""Moves through the diagram of API 2, versions, and what time does to a session."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import pytest

MOVES = {
    ("created", "activate"): "active",
    ("active", "suspend"): "suspended",
    ("suspended", "activate"): "active",
    ("suspended", "resume"): "active",
}
ALLOWED = {
    "created": ["activate", "end"],
    "active": ["suspend", "end"],
    "suspended": ["activate", "resume", "end"],
    "ended": [],
}


@pytest.fixture
def session_in(api, open_session):
    """`await session_in("suspended")`: a session in that state."""

    async def make(status):
        session = await open_session(activate=status != "created")
        path = f"/sessions/{session['id']}"
        if status == "suspended":
            await api.post(f"{path}/suspend")
        if status == "ended":
            await api.delete(path)
        return (await api.get(path)).json()

    return make


@pytest.mark.parametrize("move", ["activate", "suspend", "resume"])
@pytest.mark.parametrize("status", ALLOWED)
async def test_every_move_goes_where_the_diagram_leads_or_nowhere(api, session_in, status, move):
    session = await session_in(status)
    target = MOVES.get((status, move))

    answer = await api.post(f"/sessions/{session['id']}/{move}")

    after = (await api.get(f"/sessions/{session['id']}")).json()
    if target is None:
        assert (answer.status_code, answer.json()["code"]) == (409, "invalid_transition")
        assert (answer.json()["current_status"], answer.json()["allowed"]) == (status, ALLOWED[status])
        assert after == session
    else:
        assert (answer.status_code, answer.json()["status"]) == (200, target)
        assert answer.headers["etag"] == f'"{session["version"] + 1}"'
        assert after == answer.json()


@pytest.mark.parametrize("status", ALLOWED)
async def test_a_session_can_be_ended_from_every_state(api, session_in, status):
    session = await session_in(status)

    answer = await api.delete(f"/sessions/{session['id']}")

    assert answer.status_code == 204
    assert (await api.get(f"/sessions/{session['id']}")).json()["status"] == "ended"


@pytest.mark.parametrize(
    ("status", "move"), [("created", "activate"), ("suspended", "activate"), ("suspended", "resume")]
)
async def test_activate_and_resume_give_the_full_time_again(api, session_in, sql, status, move):
    session = await session_in(status)
    await sql("UPDATE sessions SET expires_at = now() + interval '9 s' WHERE id = CAST(:id AS uuid)", id=session["id"])

    moved = (await api.post(f"/sessions/{session['id']}/{move}")).json()

    lifetime = datetime.fromisoformat(moved["expires_at"]) - datetime.fromisoformat(moved["updated_at"])
    assert lifetime == timedelta(minutes=60)


async def test_suspend_leaves_the_time_as_it_is(api, session_in):
    session = await session_in("active")

    moved = (await api.post(f"/sessions/{session['id']}/suspend")).json()

    assert moved["expires_at"] == session["expires_at"]


async def test_of_twenty_racing_moves_exactly_one_wins(api, session_in):
    session = await session_in("created")

    answers = await asyncio.gather(*(api.post(f"/sessions/{session['id']}/activate") for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    events = (await api.get(f"/sessions/{session['id']}/events")).json()["data"]
    assert [event["type"] for event in events] == ["session.created", "session.activated"]


@pytest.mark.parametrize("body", [b"", b"{}", b" {} \n"])
async def test_a_move_takes_no_body_or_an_empty_one(api, session_in, body):
    session = await session_in("created")

    assert (await api.post(f"/sessions/{session['id']}/activate", content=body)).status_code == 200


@pytest.mark.parametrize("body", [b'{"status": "ended"}', b"null", b"[]", b"x", b"\xff"])
async def test_a_move_refuses_any_other_body(api, session_in, body):
    session = await session_in("created")

    answer = await api.post(f"/sessions/{session['id']}/activate", content=body)

    assert (answer.status_code, answer.json()["errors"][0]["path"]) == (400, "body")
    assert (await api.get(f"/sessions/{session['id']}")).json() == session


@pytest.mark.parametrize("status", ["created", "active", "suspended"])
async def test_past_its_time_a_session_is_ended_for_every_reader(api, session_in, let_expire, status):
    session = await session_in(status)
    await let_expire(session["id"])

    read = (await api.get(f"/sessions/{session['id']}")).json()

    assert (read["status"], read["end_reason"]) == ("ended", "expired")
    assert read["ended_at"] == read["expires_at"] == read["updated_at"]
    assert read["version"] == session["version"] + 1
    ended = (await api.get("/sessions", params={"status": "ended"})).json()["data"]
    others = await api.get("/sessions", params=[("status", s) for s in ("created", "active", "suspended")])
    assert ended == [read]
    assert others.json()["data"] == []
    assert (await api.get("/sessions")).json()["data"] == [read]


async def test_past_its_time_every_write_is_gone(api, open_session, let_expire):
    session = await open_session(system_prompt="first")
    path = f"/sessions/{session['id']}"
    (first,) = (await api.get(f"{path}/messages")).json()["data"]
    await let_expire(session["id"])

    answers = [
        await api.post(f"{path}/activate"),
        await api.post(f"{path}/suspend"),
        await api.post(f"{path}/resume"),
        await api.patch(path, json={"title": "late"}),
        await api.post(f"{path}/messages", json={"content": "late"}),
        await api.post(f"{path}/messages/batch", json={"messages": [{"content": "late"}]}),
        await api.delete(f"{path}/messages/{first['id']}"),
    ]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(410, "session_expired")] * 7
    assert {answer.json()["current_status"] for answer in answers} == {"ended"}
    assert (await api.get(f"{path}/messages")).json()["data"] == [first]
    assert (await api.get(path)).json()["title"] is None


async def test_past_its_time_a_session_stays_expired_even_if_it_is_ended_again(api, open_session, let_expire):
    session = await open_session()
    await let_expire(session["id"])

    assert (await api.delete(f"/sessions/{session['id']}")).status_code == 204
    assert (await api.get(f"/sessions/{session['id']}")).json()["end_reason"] == "expired"


async def test_past_its_time_the_external_id_still_leads_to_the_session(api, open_session, let_expire):
    session = await open_session(external_id="e")
    await let_expire(session["id"])

    again = await api.post("/sessions", json={"agent_id": "a", "external_id": "e", "if_exists": "return"})

    assert (again.status_code, again.json()["id"], again.json()["status"]) == (200, session["id"], "ended")


async def test_a_message_moves_the_end_and_an_ended_session_keeps_it(api, open_session, sql):
    session = await open_session(config={"timeout_minutes": 5})
    path = f"/sessions/{session['id']}"
    await sql("UPDATE sessions SET expires_at = now() + interval '9 s' WHERE id = CAST(:id AS uuid)", id=session["id"])

    message = (await api.post(f"{path}/messages", json={"content": "x"})).json()

    after = (await api.get(path)).json()
    assert after["last_message_at"] == after["updated_at"] == message["created_at"]
    lifetime = datetime.fromisoformat(after["expires_at"]) - datetime.fromisoformat(message["created_at"])
    assert lifetime == timedelta(minutes=5)
    await api.delete(path)
    assert (await api.get(path)).json()["expires_at"] == after["expires_at"]
