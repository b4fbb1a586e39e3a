"""Clients on real sockets that are slow, greedy or silent: each wait for them has an end, and says why."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from eventually import until
from sockets import NEVER, Client, Served
from structlog.testing import capture_logs

from service.handlers import slow_bodies
from service.handlers.connections import PIPELINED_MAX
from service.handlers.patience import Patience

SOON = 0.2
"""How long the tests' servers wait for what would be waited for longer in earnest."""
SESSIONS = "/api/v1/sessions"
JSON = "application/json"


@pytest.mark.parametrize("begun", [b"GET /api/v1/sess", b"GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ", b"\n"])
async def test_a_head_that_does_not_end_is_not_waited_for(served, begun):
    async with served(Patience(head_seconds=SOON)) as server:
        client = await server.connect()
        await client.send(begun)
        if begun.strip():
            status, headers, problem = await client.answer()

            assert (status, problem["code"], problem["status"]) == (408, "request_timeout", 408)
            assert headers["content-type"] == "application/problem+json"
            assert headers["x-request-id"] == problem["request_id"]
        assert await client.is_closed()
        assert server.ended("head" if begun.strip() else "idle") == 1


async def test_a_head_that_drips_is_not_waited_for(served):
    async with served(Patience(head_seconds=SOON)) as server:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        dripping = asyncio.create_task(drip(client, b"X: y\r\n"))

        assert (await client.answer())[0] == 408
        assert await client.is_closed()
        await dripping


async def drip(client: Client, drop: bytes) -> None:
    try:
        while True:
            await client.send(drop)
            await asyncio.sleep(SOON / 20)
    except ConnectionError:
        pass


async def test_who_connects_and_says_nothing_is_not_waited_for(served):
    async with served(Patience(head_seconds=SOON)) as server:
        client = await server.connect()

        assert await client.is_closed()
        assert server.ended("idle") == 1


async def test_a_second_head_has_its_end_too_and_an_idle_connection_is_kept_meanwhile(served):
    async with served() as server:
        client = await server.connect()
        await client.begin("GET", SESSIONS)
        assert (await client.answer())[0] == 200
        server.be(Patience(head_seconds=SOON))  # not before: a busy machine may need as long for the first head
        await asyncio.sleep(SOON * 3)
        await client.begin("GET", SESSIONS)
        assert (await client.answer())[0] == 200
        await client.send(b"GET ")

        assert (await client.answer())[0] == 408
        assert await client.is_closed()


async def test_a_head_behind_a_request_that_takes_long_does_not_spoil_its_answer(served, open_session):
    call = await a_pending_call(open_session)
    async with served(Patience(head_seconds=SOON)) as server:
        client = await server.connect()
        await client.begin("GET", f"{call}?wait=1")
        await client.send(b"GET /never")
        status, _, answer = await client.answer()

        assert (status, answer["status"]) == (200, "pending")
        assert (await client.answer())[0] == 408


async def a_pending_call(open_session: Any) -> str:
    session = await open_session(config={"approval_tools": ["*"]})
    api = open_session.__closure__[0].cell_contents
    said = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "t", "arguments": {}}]}
    message = (await api.post(f"/sessions/{session['id']}/messages", json=said)).json()
    return f"{SESSIONS}/{session['id']}/tool-calls/{message['tool_calls'][0]['id']}"


async def test_a_head_without_end_is_refused(served):
    async with served() as server:
        client = await server.connect()
        await client.send(b"GET / HTTP/1.1\r\n")
        writing = asyncio.create_task(drip_much(client))
        status, _, problem = await client.answer()

        assert (status, problem["code"]) == (400, "invalid_request")
        assert await client.is_closed()
        assert server.ended("head_size") == 1
        await writing


async def drip_much(client: Client) -> None:
    try:
        for number in range(10_000):
            await client.send(b"X-%d: %s\r\n" % (number, b"x" * 1000))
            await asyncio.sleep(0)
    except ConnectionError:
        pass


async def test_what_is_no_http_gets_a_problem_and_is_closed(served, log_lines):
    async with served() as server:
        client = await server.connect()
        await client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        status, headers, problem = await client.answer()

        assert (status, problem["code"], headers["connection"]) == (400, "invalid_request", "close")
        assert await client.is_closed()
    (line,) = [line for line in map(json.loads, log_lines()) if "http" in line.get("component", "")]
    assert (line["event"], line["reason"], line["address"]) == ("connection.refused", "malformed", "127.0.0.1")


async def test_requests_that_are_sent_ahead_are_answered_in_their_order_and_too_many_are_refused(served):
    async with served() as server:
        client = await server.connect()
        each = b"GET /health/live HTTP/1.1\r\nHost: h\r\nX-Request-Id: %d\r\n\r\n"
        await client.send(b"".join(each % number for number in range(100)))
        answers = [await client.answer() for _ in range(1 + PIPELINED_MAX + 1)]

        assert [status for status, _, _ in answers] == [200] * (1 + PIPELINED_MAX) + [429]
        assert [headers["x-request-id"] for _, headers, _ in answers[:-1]] == [f"{n}" for n in range(1 + PIPELINED_MAX)]
        assert await client.is_closed()
        assert server.ended("pipelined") == 1


@pytest.mark.parametrize("sent", [b"", b'{"agent_id":'])
async def test_a_body_that_does_not_come_gets_408_and_is_closed(served, monkeypatch, sent):
    monkeypatch.setattr(slow_bodies, "SECONDS_AT_FIRST", SOON)
    async with served() as server:
        client = await server.connect()
        await client.begin("POST", SESSIONS, Content_Type=JSON, Content_Length=1000)
        await client.send(sent)
        status, headers, problem = await client.answer()

        assert (status, problem["code"], headers["connection"]) == (408, "request_timeout", "close")
        assert await client.is_closed()


async def test_a_body_that_drips_too_slowly_gets_408_and_one_that_is_fast_enough_does_not(served, monkeypatch):
    monkeypatch.setattr(slow_bodies, "SECONDS_AT_FIRST", 1.0)
    monkeypatch.setattr(slow_bodies, "BYTES_PER_SECOND_MIN", 200)
    async with served() as server:
        slow, fast = await server.connect(), await server.connect()
        body = json.dumps({"agent_id": "a"}).encode().ljust(20_000)
        head = slow.head("POST", SESSIONS, Content_Type=JSON, Content_Length=len(body))
        # Longer than it may take for the first byte; each piece buys five seconds, however slow the machine is.
        await fast.send(head + body[:1000])
        await slow.send(head)
        dripping = asyncio.create_task(drip(slow, b" "))
        for start in range(1000, len(body), 1000):
            await asyncio.sleep(0.06)
            await fast.send(body[start : start + 1000])

        assert (await fast.answer())[0] == 201
        assert (await slow.answer())[0] == 408
        assert await slow.is_closed()
        await dripping


async def test_the_time_in_which_nobody_reads_is_not_the_senders(served, monkeypatch, open_session):
    """The upload's handler waits for PostgreSQL before it reads: what has arrived meanwhile is in time."""
    monkeypatch.setattr(slow_bodies, "SECONDS_AT_FIRST", SOON)
    session = await open_session()
    async with served() as server:
        client = await server.connect()
        path = f"{SESSIONS}/{session['id']}/attachments"
        async with server.edge.app.state.parts.database.begin() as tx:
            await tx._connection.execute("LOCK TABLE loose_blobs IN ACCESS EXCLUSIVE MODE")
            await client.begin("POST", path, Content_Length=5)
            await client.send(b"bytes")
            await asyncio.sleep(SOON * 3)

        assert (await client.answer())[0] == 201


async def test_a_client_that_breaks_off_a_body_makes_no_error(served):
    async with served() as server:
        client = await server.connect()
        await client.begin("POST", SESSIONS, Content_Type=JSON, Content_Length=1000)
        await client.send(b"{")
        await server.until_open(1)
        await asyncio.sleep(SOON)
        with capture_logs() as said:
            client.hang_up()
            await server.until_open(0)
            await until(lambda: requests_with(server, "400") > 0)

        assert [(line["event"], line["log_level"], line["status"]) for line in said] == [("request", "info", 400)]


def requests_with(server: Served, status: str) -> float:
    labels = {"method": "POST", "route": SESSIONS, "status": status}
    return server.edge.metrics.registry.get_sample_value("holdfast_request_seconds_count", labels) or 0.0


async def test_what_follows_an_early_answer_is_read_for_a_while_and_the_connection_goes_on(served):
    async with served(Patience(late_body_seconds=NEVER)) as server:
        client = await server.connect()
        size = 4 * 1024 * 1024
        await client.begin("POST", SESSIONS, Content_Type=JSON, Content_Length=size)
        assert (await client.answer())[0] == 413
        await client.send(b"x" * size)
        await client.begin("GET", SESSIONS)

        assert (await client.answer())[0] == 200


async def test_what_follows_an_early_answer_is_not_read_without_end(served):
    async with served(Patience(late_body_bytes=1024 * 1024)) as server:
        client = await server.connect()
        await client.begin("POST", SESSIONS, Content_Type=JSON, Content_Length=10**12)
        assert (await client.answer())[0] == 413
        await flood(client)

        assert server.ended("late_body") == 1


async def flood(client: Client) -> None:
    """Send until the server will have no more of it."""
    try:
        while True:
            await client.send(b"x" * 65_536)
    except ConnectionError:
        pass


async def test_what_should_follow_an_early_answer_is_not_waited_for_without_end(served):
    async with served(Patience(late_body_seconds=SOON)) as server:
        client = await server.connect()
        await client.begin("POST", SESSIONS, Content_Type=JSON, Content_Length=10**7)
        assert (await client.answer())[0] == 413

        assert await client.is_closed()
        assert server.ended("late_body") == 1


async def test_an_idle_connection_is_closed_also_behind_a_body_that_came_late(served):
    async with served(keep_alive_seconds=SOON) as server:
        client = await server.connect()
        size = 2 * 1024 * 1024
        await client.begin("POST", SESSIONS, Content_Type=JSON, Content_Length=size)
        assert (await client.answer())[0] == 413
        await client.send(b"x" * size)

        assert await client.is_closed()


async def test_who_takes_nothing_of_an_answer_is_cut_off(served, api, open_session):
    session = await open_session(config={"max_attachment_size": 32 * 1024 * 1024})
    uploaded = await api.post(f"/sessions/{session['id']}/attachments", content=b"x" * 16 * 1024 * 1024)
    path = f"{SESSIONS}/{session['id']}/attachments/{uploaded.json()['id']}"
    async with served(Patience(unread_seconds=SOON)) as server:
        client = await server.connect(limit=1024)
        await client.begin("GET", path)
        await server.until_open(1)
        await server.until_open(0)

        assert server.ended("unread") == 1


async def test_one_connection_too_many_is_told_so_at_once_and_the_others_go_on(served):
    async with served(Patience(connections_max=3)) as server:
        busy = [await with_a_stream(server) for _ in range(3)]
        one_more = await server.connect()
        await one_more.begin("GET", SESSIONS)
        status, headers, problem = await one_more.answer()

        assert (status, problem["code"], headers["retry-after"]) == (503, "unavailable", "1")
        assert await one_more.is_closed()
        busy[0].hang_up()
        await server.until_open(2)
        another = await server.connect()
        await another.begin("GET", SESSIONS)
        assert (await another.answer())[0] == 200
        assert (server.ended("too_many"), server.ended("dropped")) == (1, 0)


async def with_a_stream(server: Served, **options: Any) -> Client:
    """A client whose connection is busy: it follows the events of its tenant."""
    client = await server.connect(**options)
    await client.begin("GET", "/api/v1/events/stream")
    assert (await client.answer_head())[0] == 200
    return client


async def test_one_connection_too_many_that_says_nothing_is_closed_soon(served):
    async with served(Patience(connections_max=0, refused_seconds=SOON)) as server:
        client = await server.connect()

        assert (await client.answer())[0] == 503
        assert await client.is_closed()


FLOOD = 60


async def test_a_flood_of_idle_connections_from_one_address_does_not_keep_others_out(served):
    async with served(Patience(connections_max=40), address_connections=10) as server:
        honest = await with_a_stream(server, local_addr=("127.0.0.2", 0))
        for _ in range(FLOOD):
            await asked_once(await server.connect())
        await server.until_open(10 + 1)
        newcomer = await server.connect(local_addr=("127.0.0.3", 0))

        assert await asked_once(newcomer) == 200
        assert await honest.read_until(b"retry: 2000\n\n")
        assert (server.ended("dropped"), server.ended("too_many")) == (FLOOD - 10, 0)


async def asked_once(client: Client) -> int:
    await client.begin("GET", "/health/live")
    return (await client.answer())[0]


async def test_a_flood_from_many_addresses_drops_what_has_been_idle_longest(served):
    async with served(Patience(connections_max=20), address_connections=5) as server:
        busy = await with_a_stream(server, local_addr=("127.0.0.2", 0))
        oldest = await server.connect(local_addr=("127.0.0.3", 0))
        assert await asked_once(oldest) == 200
        for number in range(FLOOD):
            client = await server.connect(local_addr=(f"127.0.1.{number % 12 + 1}", 0))
            assert await asked_once(client) == 200
        await server.until_open(20)

        assert await oldest.is_closed()
        assert await busy.read_until(b"retry: 2000\n\n")
        assert server.ended("too_many") == 0


async def test_an_address_whose_connections_are_all_busy_is_refused(served):
    async with served(address_connections=2) as server:
        for _ in range(2):
            await with_a_stream(server)
        refused = await server.connect()
        await refused.begin("GET", SESSIONS)
        status, headers, problem = await refused.answer()
        other = await server.connect(local_addr=("127.0.0.2", 0))

        assert (status, problem["code"], headers["retry-after"]) == (429, "rate_limited", "1")
        assert problem["detail"].startswith(
            "Your address has 2 connections to this process, as many as one address may;"
        )
        assert await asked_once(other) == 200


async def test_a_trusted_proxy_has_as_many_connections_as_it_opens(served):
    async with served(address_connections=2, proxies=["127.0.0.0/8"]) as server:
        clients = [await server.connect() for _ in range(10)]

        assert [await asked_once(client) for client in clients] == [200] * 10
        assert server.ended("dropped") == 0


async def test_while_a_process_is_nearly_full_a_connection_without_a_request_ends_soon(served):
    async with served(Patience(connections_max=4, crowded_seconds=SOON)) as server:
        few = [await server.connect() for _ in range(2)]
        assert [await asked_once(client) for client in few] == [200] * 2
        crowd = await server.connect()
        assert await asked_once(crowd) == 200

        assert await crowd.is_closed()
        assert [await asked_once(client) for client in few] == [200] * 2
