"""HEAD on every address that takes GET: the same status and headers, and no body (RFC 9110, section 9.3.2).

The edge hands a HEAD on as a GET and drops the body of the answer, so no route has to know of it. Three do, because
their GET does what only a body is worth: a stream takes a place, a wait waits, a download opens its file.
"""

from __future__ import annotations

from typing import Any, cast

from litestar.connection import ASGIConnection
from litestar.types import HTTPScope, Message, Send

HEAD_KEY = "holdfast.head"
"""Where the edge leaves in the ASGI scope that the body will be dropped."""


def as_get(scope: HTTPScope) -> HTTPScope:
    """The GET that a HEAD asks about; the server keeps its own scope, so that it sends no body either."""
    return cast("HTTPScope", scope | {"method": "GET", HEAD_KEY: True})


def wants_head_only(request: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """Whether nothing of the answer's body will be sent."""
    return HEAD_KEY in request.scope


def without_body(send: Send) -> Send:
    """`send` for an answer of which only the head is sent; `Content-Length` goes on saying what GET would send."""

    async def send_head(message: Message) -> None:
        if message["type"] != "http.response.body":
            await send(message)
        elif not message.get("more_body", False):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_head
