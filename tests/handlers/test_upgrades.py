"""Requests that ask for another protocol, on real sockets: answered as though they had not, and framed as they say."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

SESSIONS = "/api/v1/sessions"
HONEST = json.dumps({"agent_id": "agent"}).encode()
HIDDEN = b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n"
"""A body that would be a request, were it read as one."""

ASKS = [
    {"Connection": "Upgrade", "Upgrade": "websocket"},
    {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2_Settings": "AAEAAEAAAAIAAAAB"},
    {"Connection": "keep-alive, upgrade", "Upgrade": "h2c", "HTTP2_Settings": ""},
]


def framed(body: bytes, how: str) -> tuple[dict[str, object], bytes]:
    """Headers that say where a body ends, and what is sent of it."""
    if how == "length":
        return {"Content_Length": len(body)}, body
    pieces = [body[:5], body[5:]]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return {"Transfer_Encoding": "chunked"}, chunks + b"0\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("asks", ASKS)
@pytest.mark.parametrize("how", ["length", "chunks"])
@pytest.mark.parametrize("packets", ["one", "two", "many"])
@pytest.mark.parametrize(("body", "expected"), [(HONEST, 201), (HIDDEN, 400)])
async def test_a_body_behind_an_upgrade_is_the_requests_and_nothing_else(served, asks, how, packets, body, expected):
    frame, sent = framed(body, how)
    async with served() as server:
        client = await server.connect()
        head = client.head("POST", SESSIONS, Content_Type="application/json", **asks, **frame)
        next_one = client.head("GET", SESSIONS)
        if packets == "one":
            await client.send(head + sent + next_one)
        elif packets == "two":
            await client.send(head)
            await server.until_begun()
            await client.send(sent + next_one)
        else:
            for byte in head + sent + next_one:
                await client.send(bytes([byte]))
        first, second = await client.answer(), await client.answer()

        assert (first[0], second[0]) == (expected, 200)
        assert "data" in second[2]


@pytest.mark.parametrize("asks", ASKS)
async def test_what_has_no_body_is_answered_and_the_connection_goes_on(served, asks):
    async with served() as server:
        client = await server.connect()
        await client.begin("GET", SESSIONS, **asks)
        assert (await client.answer())[0] == 200
        await client.send(client.head("GET", SESSIONS, **asks) * 12 + client.head("GET", "/health/live"))

        assert [(await client.answer())[0] for _ in range(13)] == [200] * 13


async def test_whose_last_request_asks_for_an_upgrade_is_let_go_behind_it(served):
    async with served() as server:
        client = await server.connect()
        await client.begin("GET", SESSIONS, Connection="close, Upgrade", Upgrade="h2c")
        status, headers, _ = await client.answer()

        assert (status, headers["connection"]) == (200, "close")
        assert await client.is_closed()


@pytest.mark.parametrize("frame", [{}, {"Content_Length": len(HIDDEN)}, {"Connection": "Upgrade", "Upgrade": "h2c"}])
@pytest.mark.parametrize("target", ["holdfast:80", "/api/v1/sessions"])
@pytest.mark.parametrize("is_apart", [False, True])
async def test_there_is_no_tunnel_and_nothing_behind_one_that_is_asked_for(served, frame, target, is_apart):
    async with served() as server:
        client = await server.connect()
        head = client.head("CONNECT", target, **frame)
        await client.send(head if is_apart else head + HIDDEN)
        status, headers, problem = await client.answer()

        assert (status, problem["code"], headers["connection"]) == (400, "invalid_request", "close")
        if is_apart:
            with suppress(ConnectionError):
                await client.send(HIDDEN)
        assert await client.is_closed()


async def test_a_body_framed_in_two_ways_is_refused_with_an_upgrade_as_without(served):
    async with served() as server:
        for asks in ({}, ASKS[0]):
            client = await server.connect()
            await client.begin("POST", SESSIONS, Content_Length=5, Transfer_Encoding="chunked", **asks)
            status, headers, _ = await client.answer()

            assert (status, headers["connection"]) == (400, "close")
            assert await client.is_closed()
