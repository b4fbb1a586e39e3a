"""Answers on their way out, in pieces, each when the client has taken most of those before.

uvicorn would hand a body to the transport whole, and return: its time in memory would not be known, and a
client that takes it slowly would be cut off as if it took nothing, because the transport tells of no part of a write.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio import Transport
from collections.abc import Callable
from typing import Any

from litestar.types import Send

from service.handlers.patience import Patience

PIECE_BYTES = 16 * 1024
"""What a connection holds for its client, twice at the most: 32 MB of 1,000 that read nothing."""

SYSTEM_BYTES = 64 * 1024
"""What the system holds beside it, of what it has not sent: else it would take 3 MB of each (measured on Linux)."""


def bound_buffers(transport: Transport) -> None:
    """Let a connection, and the system below it, hold no more than that for a client that does not take it."""
    transport.set_write_buffer_limits(PIECE_BYTES)
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family != socket.AF_UNIX:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, SYSTEM_BYTES)


def in_pieces(send: Send, patience: Patience, on_late: Callable[[], None]) -> Send:
    """`send` for bodies of any size; `on_late` is called where a client has not taken one when its time is over."""

    async def send_in_pieces(message: Any) -> None:
        body = message.get("body", b"")
        if len(body) <= PIECE_BYTES:
            await send(message)
            return
        seconds = patience.unread_seconds + len(body) / patience.answer_bytes_per_second
        deadline = asyncio.get_running_loop().call_later(seconds, on_late)
        try:
            for start in range(0, len(body), PIECE_BYTES):
                end = start + PIECE_BYTES
                is_last = end >= len(body) and not message.get("more_body", False)
                await send({"type": "http.response.body", "body": body[start:end], "more_body": not is_last})
        finally:
            deadline.cancel()

    return send_in_pieces
