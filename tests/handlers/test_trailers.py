"""Fields of a head, of which there are not too many, and of a trailer (RFC 9112, 7.1.2), which mean nothing here."""

from __future__ import annotations

import json

from service.handlers.upgrades import FIELD_BYTES, HEAD_FIELDS_MAX, TRAILER_BYTES_MAX

BODY = json.dumps({"agent_id": "a"}).encode()
CHUNKS = b"%x\r\n%b\r\n0\r\n" % (len(BODY), BODY)
FIELD = b"a:b\r\n"
MOST = TRAILER_BYTES_MAX // (len("ab") + FIELD_BYTES)
ENDLESS = FIELD * (MOST + 2)
"""Short ones, which cost most: 10 KiB in all. The parser tells of each when the next begins."""


async def chunked(client, method, path):
    await client.begin(method, path, Transfer_Encoding="chunked", Content_Type="application/json")


async def test_a_head_has_a_hundred_fields_and_no_more(served):
    async with served() as server:
        client = await server.connect()
        head = b"GET /health/live HTTP/1.1\r\nHost: h\r\n"
        await client.send(head + FIELD * (HEAD_FIELDS_MAX - 1) + b"\r\n")
        fitting, _, _ = await client.answer()
        await client.send(head + FIELD * (HEAD_FIELDS_MAX + 1))  # and no end of it
        refused, headers, _ = await client.answer()

        assert (fitting, refused, headers["connection"]) == (200, 400, "close")
        assert await client.is_closed()


async def test_a_field_behind_the_body_is_none_of_the_head(served):
    async with served() as server:
        client = await server.connect()
        opened = []
        for _ in range(2):
            await chunked(client, "POST", "/api/v1/sessions")
            await client.send(CHUNKS + b"Idempotency-Key: once\r\n\r\n")
            opened.append(await client.answer())

        assert [status for status, _, _ in opened] == [201, 201]
        assert opened[0][2]["id"] != opened[1][2]["id"]
        assert not any("idempotent-replayed" in headers for _, headers, _ in opened)


async def test_a_trailer_without_end_is_no_request(served):
    async with served() as server:
        client = await server.connect()
        await chunked(client, "POST", "/api/v1/sessions")
        await client.send(CHUNKS + ENDLESS)
        status, headers, problem = await client.answer()

        assert (status, headers["connection"]) == (400, "close")
        assert problem["errors"] == [
            {"path": "body", "message": "Its chunks, or what follows them, are not as RFC 9112 has them (section 7.1)"}
        ]
        assert await client.is_closed()
        assert server.ended("malformed") == 1


async def test_a_trailer_without_end_behind_an_answer_is_not_read(served):
    async with served() as server:
        client = await server.connect()
        await chunked(client, "GET", "/health/live")
        status, _, _ = await client.answer()
        await client.send(b"0\r\n" + ENDLESS)

        assert status == 200
        assert await client.is_closed()
        assert server.ended("malformed") == 1


async def test_the_trailers_of_requests_on_one_connection_are_counted_apart(served):
    async with served() as server:
        client = await server.connect()
        statuses = []
        for _ in range(2):
            await chunked(client, "POST", "/api/v1/sessions")
            await client.send(CHUNKS + FIELD * MOST + b"\r\n")
            statuses.append((await client.answer())[0])

        assert statuses == [201, 201]
