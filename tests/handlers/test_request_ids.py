"""X-Request-Id: the caller's where it is valid, ours where it is not, on every answer and on the events."""

from __future__ import annotations

from uuid import UUID

import pytest

VALID = [b"a", b"01a204ea-3eb9-72b5-9329-d4573b4d90a2", b"A.b_c:d/e+f=g@h-9", b"x" * 128]
INVALID = [b"", b" ", b"a b", b"x" * 129, "é".encode(), b"\xff", b"a\tb", b'"a"', b"a,b", b"{}", b"a\x7f", b"<script>"]
PATHS = ["/api/v1/sessions", "/api/v1/sessions/x", "/nowhere", "/health/live", "/schema/openapi.json", "/metrics"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("given", VALID)
async def test_a_valid_id_comes_back(app, client_of, path, method, given):
    async with client_of(app) as client:
        answer = await client.request(method, path, headers={"X-Request-Id": given})

    assert answer.headers.get_list("x-request-id") == [given.decode()]
    if answer.is_client_error:
        assert answer.json()["request_id"] == given.decode()


@pytest.mark.parametrize("given", INVALID)
async def test_an_invalid_id_is_replaced(app, client_of, given):
    async with client_of(app) as client:
        answer = await client.get("/api/v1/sessions", headers={"X-Request-Id": given})

    (made,) = answer.headers.get_list("x-request-id")
    assert UUID(made).version == 7
    assert answer.json()["request_id"] == made


async def test_each_request_without_an_id_gets_its_own(api):
    ids = [(await api.get("/sessions")).headers["x-request-id"] for _ in range(5)]

    assert len(set(ids)) == 5


async def test_an_id_is_on_the_events_that_its_request_caused(api):
    headers = {"X-Request-Id": "caused-by-me"}
    wish = {"agent_id": "a", "activate": True, "system_prompt": "x"}

    session = (await api.post("/sessions", json=wish, headers=headers)).json()
    answer = await api.post(f"/sessions/{session['id']}/messages", json={"content": "x"})

    events = (await api.get(f"/sessions/{session['id']}/events")).json()["data"]
    assert [event["request_id"] for event in events] == ["caused-by-me"] * 3 + [answer.headers["x-request-id"]]


async def test_a_replay_has_an_id_of_its_own(api):
    headers = {"Idempotency-Key": "k"}
    answers = [await api.post("/sessions", json={"agent_id": "a"}, headers=headers) for _ in range(2)]

    assert answers[0].headers["x-request-id"] != answers[1].headers["x-request-id"]
