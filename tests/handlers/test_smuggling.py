"""Requests that parsers disagree about get exactly one answer, and what is hidden in them none.

One server answers all of them. Behind each attempt an honest request is sent on the same connection: either the
connection is closed, or that request gets the next answer, so both sides agree where the attempt ended.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from eventually import DEADLINE_SECONDS
from requests_to_smuggle import HIDDEN_ID, Attempt, attempts
from sockets import Served

PROBE_ID = "honest-request"
PROBE = f"GET /health/live HTTP/1.1\r\nHost: h\r\nX-Request-Id: {PROBE_ID}\r\nConnection: close\r\n\r\n".encode()
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) .*?\r\n\r\n", re.DOTALL)
REQUEST_ID = re.compile(rb"x-request-id: (\S+)\r\n", re.IGNORECASE)


@pytest.fixture(scope="module")
async def server(serving) -> AsyncIterator[Served]:
    """One server for all attempts."""
    async with serving("smuggling") as running:
        yield running


async def answers_to(server: Served, attempt: Attempt) -> list[tuple[int, str]]:
    """Status and request id of each answer, until the server closes the connection."""
    client = await server.connect()
    with suppress(ConnectionError):
        for piece in attempt.pieces:
            await client.send(piece.replace(b"{key}", client._key.encode()))
            await asyncio.sleep(0)
        await client.send(PROBE)
    came = await client.rest()
    client.hang_up()
    return [(int(found[1]), (REQUEST_ID.search(found[0]) or [b"", b""])[1].decode()) for found in ANSWER.finditer(came)]


@pytest.mark.parametrize("attempt", attempts(), ids=lambda attempt: attempt.name)
async def test_there_is_one_answer_and_none_to_what_is_hidden(server: Served, attempt: Attempt):
    async with asyncio.timeout(DEADLINE_SECONDS):
        answers = await answers_to(server, attempt)

    assert HIDDEN_ID not in [request_id for _, request_id in answers]
    own = [status for status, request_id in answers if request_id != PROBE_ID]
    assert len(own) == 1
    assert own[0] in attempt.statuses
    assert [request_id for _, request_id in answers[1:]] in ([], [PROBE_ID])
