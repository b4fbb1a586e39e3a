"""The stop, on real sockets: what waits is answered at once, what works has its time, and nothing is made up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from eventually import until
from sockets import NEVER, Client, Served
from structlog.testing import capture_logs

from service.handlers import edge, slow_bodies

SESSIONS = "/api/v1/sessions"
JSON = "application/json"
WAIT = "wait=60"
POLLERS = 5


@pytest.fixture
async def call(api: Any, open_session: Callable[..., Awaitable[Any]]) -> str:
    """The path of a tool call that waits for a decision."""
    session = await open_session(config={"approval_tools": ["*"]})
    said = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t", "arguments": {}}]}
    message = (await api.post(f"/sessions/{session['id']}/messages", json=said)).json()
    return f"{SESSIONS}/{session['id']}/tool-calls/{message['tool_calls'][0]['id']}"


def waiters(server: Served) -> int:
    return len(server.edge.app.state.parts.watch._waiters)


def refused(answer: tuple[int, dict[str, str], Any]) -> tuple[int, str, str, str, str]:
    """What matters of a refusal at the stop."""
    status, headers, problem = answer
    return status, headers["content-type"], headers["retry-after"], headers["connection"], problem["code"]


STOPPING = (503, "application/problem+json", "1", "close", "unavailable")


async def test_every_wait_is_answered_at_the_stop_with_the_call_as_it_is(served, call):
    async with served() as server:
        clients = [await server.connect() for _ in range(POLLERS)]
        for client in clients:
            await client.begin("GET", f"{call}?{WAIT}")
        await until(lambda: waiters(server) == POLLERS)
        server.edge.drain.start()
        answers = [await client.answer() for client in clients]
        closed = [await client.is_closed() for client in clients]

    assert [(status, answer["status"]) for status, _, answer in answers] == [(200, "pending")] * POLLERS
    assert [headers["connection"] for _, headers, _ in answers] == ["close"] * POLLERS
    assert closed == [True] * POLLERS


async def test_a_wait_that_comes_after_the_stop_is_answered_at_once_and_is_the_last_of_its_connection(served, call):
    async with served() as server:
        client = await server.connect()
        await client.begin("GET", call)
        assert (await client.answer())[0] == 200
        server.edge.drain.start()
        await client.begin("GET", f"{call}?{WAIT}")
        status, headers, answer = await client.answer()

        assert (status, answer["status"], headers["connection"]) == (200, "pending", "close")
        assert await client.is_closed()


async def test_a_stream_that_comes_after_the_stop_is_sent_elsewhere(served, call):
    async with served() as server:
        client = await server.connect()
        await client.begin("GET", call)
        await client.answer()
        server.edge.drain.start()
        with capture_logs() as said:
            await client.begin("GET", "/api/v1/events/stream")
            answer = await client.answer()

    assert refused(answer) == STOPPING
    assert [line["log_level"] for line in said if line["event"] != "request"] == []


@pytest.mark.parametrize("path", ["attachments", "messages"])
async def test_a_body_that_has_not_begun_is_not_waited_for(served, open_session, path, monkeypatch):
    monkeypatch.setattr(slow_bodies, "SECONDS_AT_FIRST", NEVER)
    session = await open_session()
    async with served() as server:
        client = await server.connect()
        await client.begin(
            "POST", f"{SESSIONS}/{session['id']}/{path}", Content_Type=JSON, Content_Length=9, Expect="100-continue"
        )
        await client.is_invited()
        with capture_logs() as said:
            server.edge.drain.start()
            answer = await client.answer()
            assert await client.is_closed()

    assert refused(answer) == STOPPING
    assert [line["event"] for line in said] == ["request"]  # and it was not cut off at the end of the grace


async def test_a_body_that_has_begun_is_waited_for(served, open_session):
    session = await open_session()
    body = json.dumps({"content": "words"}).encode()
    async with served() as server:
        client = await server.connect()
        await client.begin(
            "POST", f"{SESSIONS}/{session['id']}/messages", Content_Type=JSON, Content_Length=len(body),
            Expect="100-continue",
        )  # fmt: skip
        await client.is_invited()
        await client.send(body[:1])
        await server.until_read()
        server.edge.drain.start()
        await asyncio.sleep(2 * slow_bodies.BEGINNING_SECONDS)
        await client.send(body[1:])

        assert (await client.answer())[0] == 201


async def test_work_that_outlasts_the_grace_ends_with_a_problem_and_no_trace(served, open_session, monkeypatch, caplog):
    monkeypatch.setattr(edge, "GRACE_SECONDS", 0.2)
    session = await open_session()
    async with served() as server:
        client = await server.connect()
        async with server.edge.app.state.parts.database.begin() as tx:
            await tx._connection.execute("SELECT id FROM sessions WHERE id = $1 FOR UPDATE", session["id"])
            await client.begin("POST", f"{SESSIONS}/{session['id']}/activate", Content_Length=0)
            await until(lambda: requests_at_work(server) == 1)
            with capture_logs() as said:
                server.edge.drain.start()
                answer = await client.answer()

        assert refused(answer) == STOPPING
        assert [(line["event"], line["log_level"]) for line in said] == [
            ("request.cut", "warning"),
            ("request", "info"),
        ]
        assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_an_answer_that_outlasts_the_grace_is_cut_off(served, api, open_session, monkeypatch, caplog):
    monkeypatch.setattr(edge, "GRACE_SECONDS", 0.2)
    session = await open_session(config={"max_attachment_size": 32 * 1024 * 1024})
    uploaded = await api.post(f"/sessions/{session['id']}/attachments", content=b"x" * 16 * 1024 * 1024)
    async with served() as server:
        client = await server.connect(limit=1024)
        await client.begin("GET", f"{SESSIONS}/{session['id']}/attachments/{uploaded.json()['id']}")
        await until(server.is_stalled)
        server.edge.drain.start()
        await server.until_open(0)

        assert b"Internal Server Error" not in await client.rest()
        assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_request_that_the_server_cancels_gets_a_closed_connection_and_no_text(served, call, caplog):
    async with served() as server:
        client = await server.connect()
        await client.begin("GET", f"{call}?{WAIT}")
        await until(lambda: waiters(server) == 1)
        server.cancel_requests()

        assert await client.rest() == b""
        assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_what_breaks_outside_of_the_framework_gets_a_problem_too(served, call, monkeypatch, caplog):
    async def breaks(*_: Any) -> None:
        raise RuntimeError("a secret")

    async with served() as server:
        client = await server.connect()
        monkeypatch.setattr(server.edge, "app", breaks)
        with capture_logs() as said:
            await client.begin("GET", call)
            status, headers, problem = await client.answer()

    assert (status, headers["content-type"], problem["code"]) == (500, "application/problem+json", "internal_error")
    assert [line["event"] for line in said] == ["request.broke", "request"]
    assert "a secret" not in repr(said) + caplog.text


def requests_at_work(server: Served) -> int:
    return len(server.edge.drain._limits)


async def test_who_connects_in_the_last_moment_and_says_nothing_holds_up_no_stop(served):
    async with served() as server:
        server.edge.drain.start()
        client: Client = await server.connect()

        assert await client.is_closed()
