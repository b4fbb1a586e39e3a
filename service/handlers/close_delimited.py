"""Answers without a length to clients of HTTP/1.0: they end where the connection does (RFC 9112, section 6.3).

uvicorn would send them in chunks, which such a client takes for the content (section 6.1 forbids it).
"""

from __future__ import annotations

from litestar.types import Message, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def is_without_chunks(cycle: RequestResponseCycle) -> bool:
    """Whether the client of this request knows no chunks."""
    return cycle.scope["http_version"] == "1.0"


def close_delimited(cycle: RequestResponseCycle, send: Send) -> Send:
    """`send` of `cycle`, such that an answer without a Content-Length is sent as it is, and its end closes the line."""
    is_delimited = False

    async def send_as_it_is(message: Message) -> None:
        nonlocal is_delimited
        if message["type"] == "http.response.start":
            is_delimited = all(name.lower() != b"content-length" for name, _ in message["headers"])
            if is_delimited:
                cycle.chunked_encoding = False
                cycle.keep_alive = False
        elif is_delimited and message["type"] == "http.response.body":
            cycle.expected_content_length = len(message["body"])  # all that uvicorn is to expect is what comes now
        await send(message)

    return send_as_it_is
