"""Moves through the diagram of API 2, versions, and what time does to a session."""

from __future__ import annotations

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
