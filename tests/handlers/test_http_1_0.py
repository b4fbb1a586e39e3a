"""Clients of HTTP/1.0, on real sockets: no chunks, and an answer without a length ends with the connection."""

from __future__ import annotations

import json

import pytest
from sockets import Client

SESSIONS = "/api/v1/sessions"


def split(answer: bytes) -> tuple[list[str], bytes]:
    """The lines of the head, and the content."""
    head, _, content = answer.partition(b"\r\n\r\n")
    return head.decode("latin-1").lower().split("\r\n"), content


async def asks(client: Client, method: str, path: str, version: str = "1.0", **headers: object) -> None:
    head = client.head(method, path, **headers).replace(b"HTTP/1.1", f"HTTP/{version}".encode(), 1)
    await client.send(head)


@pytest.mark.parametrize("asked", [{}, {"Connection": "keep-alive"}])
async def test_a_stream_is_sent_as_it_is_and_ends_with_the_connection(served, api, open_session, asked):
    session = await open_session()
    await api.delete(f"/sessions/{session['id']}")
    async with served() as server:
        client = await server.connect()
        await asks(client, "GET", f"{SESSIONS}/{session['id']}/events/stream?after_seq=0", **asked)
        head, content = split(await client.rest())

    assert head[0] == "http/1.1 200 ok"
    assert "connection: close" in head
    assert not [line for line in head if line.startswith(("transfer-encoding", "content-length"))]
    assert content.startswith(b"retry: 2000\n\nid: 1\nevent: session.created\n")
    assert content.endswith(b"\n\n: ended\n\n")


async def test_a_stream_that_goes_on_is_told_as_it_happens(served, api, open_session):
    session = await open_session()
    async with served() as server:
        client = await server.connect()
        await asks(client, "GET", f"{SESSIONS}/{session['id']}/events/stream")
        await client.read_until(b"retry: 2000\n\n")
        await api.post(f"/sessions/{session['id']}/messages", json={"content": "words"})

        assert (await client.read_until(b"\n\n")).startswith(b"id: 3\nevent: message.created\n")


async def test_a_stream_to_http_1_1_comes_in_chunks(served, api, open_session):
    session = await open_session()
    await api.delete(f"/sessions/{session['id']}")
    async with served() as server:
        client = await server.connect()
        await asks(client, "GET", f"{SESSIONS}/{session['id']}/events/stream?after_seq=0", "1.1", Connection="close")
        head, content = split(await client.rest())

    assert "transfer-encoding: chunked" in head
    assert content.endswith(b"0\r\n\r\n")


async def test_an_answer_with_a_length_keeps_it(served):
    async with served() as server:
        client = await server.connect()
        await asks(client, "GET", SESSIONS, Connection="keep-alive")
        head, content = split(await client.rest())

    assert f"content-length: {len(content)}" in head
    assert "connection: close" in head
    assert "data" in json.loads(content)


async def test_a_download_keeps_its_length_and_head_has_no_content(served, api, open_session):
    session = await open_session()
    uploaded = (await api.post(f"/sessions/{session['id']}/attachments", content=b"x" * 100_000)).json()
    path = f"{SESSIONS}/{session['id']}/attachments/{uploaded['id']}"
    async with served() as server:
        whole, head_alone = await server.connect(), await server.connect()
        await asks(whole, "GET", path)
        await asks(head_alone, "HEAD", path)
        head, content = split(await whole.rest())
        bare, nothing = split(await head_alone.rest())

    assert (content, nothing) == (b"x" * 100_000, b"")
    assert "content-length: 100000" in head
    assert "content-length: 100000" in bare
    assert not [line for line in head + bare if line.startswith("transfer-encoding")]


async def test_an_answer_without_content_has_none(served, api, open_session):
    session = await open_session()
    etag = (await api.get(f"/sessions/{session['id']}")).headers["etag"]
    async with served() as server:
        known, deleting = await server.connect(), await server.connect()
        await asks(known, "GET", f"{SESSIONS}/{session['id']}", If_None_Match=etag)
        (first, *_), nothing = split(await known.rest())
        await asks(deleting, "DELETE", f"{SESSIONS}/{session['id']}")
        (second, *_), nothing_either = split(await deleting.rest())

    assert (first, second) == ("http/1.1 304 not modified", "http/1.1 204 no content")
    assert (nothing, nothing_either) == (b"", b"")


async def test_an_expectation_is_not_heard(served, open_session):
    """RFC 9110, section 10.1.1: a client of HTTP/1.0 would take the 100 for the answer."""
    session = await open_session()
    body = json.dumps({"content": "words"}).encode()
    async with served() as server:
        client = await server.connect()
        await asks(
            client, "POST", f"{SESSIONS}/{session['id']}/messages", Content_Type="application/json",
            Content_Length=len(body), Expect="100-continue",
        )  # fmt: skip
        await client.send(body)
        head, content = split(await client.rest())

    assert head[0] == "http/1.1 201 created"
    assert json.loads(content)["content"] == "words"
