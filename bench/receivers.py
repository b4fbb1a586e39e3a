"""Receivers of webhooks: one that notes when what came, one that hangs, and some that mean harm."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Self, cast

OK = b"HTTP/1.1 204 No Content\r\n\r\n"
OK_AND_CLOSED = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
HANGING_SECONDS = 16.0
"""Longer than an attempt may take."""

HARM_SECONDS = 20.0
CHUNK = b"x" * 65_536
BOMB = gzip.compress(bytes(100_000_000))
HEADERS = b"".join(b"X-%d: y\r\n" % number for number in range(1000))

HARM: dict[str, tuple[bytes, bytes, float]] = {
    "a body of 1 GB": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", CHUNK, 0),
    "a body that drips": (b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", 0.05),
    "1,000 headers": (b"HTTP/1.1 200 OK\r\n" + HEADERS + b"Content-Length: 0\r\n\r\n", b"", HARM_SECONDS),
    "a gzip bomb": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + BOMB, b"", HARM_SECONDS),
    "headers without end": (b"HTTP/1.1 200 OK\r\n", b"X-More: %b\r\n" % (b"x" * 1000), 0),
    "headers that drip": (b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05),
}
"""What is said first, what is said for ever after, and how many seconds lie between."""


class Receiver:
    """Takes everything, and notes when what came."""

    def __init__(self) -> None:
        self.lags_ms: list[float] = []
        self.count = 0
        self._came = asyncio.Event()

    async def until(self, count: int) -> None:
        """Wait for so many deliveries."""
        while self.count < count:
            self._came.clear()
            await self._came.wait()

    def clear(self) -> None:
        """Begin to count anew."""
        self.lags_ms.clear()
        self.count = 0

    def note(self, came: float, body: bytes) -> None:
        """A delivery has come."""
        if body != b"raw":
            told = datetime.fromisoformat(json.loads(body)["occurred_at"])
            self.lags_ms.append((came - told.timestamp()) * 1000)
        self.count += 1
        self._came.set()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._servers: list[asyncio.AbstractServer] = [
            await loop.create_server(lambda: Line(self.note, OK), "127.0.0.1", 0, backlog=1000),
            await loop.create_server(lambda: Line(self.note, OK_AND_CLOSED), "127.0.0.1", 0, backlog=1000),
            await asyncio.start_server(_hang, "127.0.0.1", 0, backlog=1000),
        ]
        self.url, self.closing_url, self.hanging_url = map(_url, self._servers)
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()


class Line(asyncio.Protocol):
    """One connection; cheap, because this machine is the measured one, too."""

    def __init__(self, note: Callable[[float, bytes], None], answer: bytes) -> None:
        self._note = note
        self._answer = answer
        self._waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        came = time.time()
        self._waiting += data
        head, end, rest = self._waiting.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(rest) < length:
            return
        self._waiting = rest[length:]
        self._note(came, rest[:length])
        self._transport.write(self._answer)
        if self._answer is OK_AND_CLOSED:
            self._transport.close()


class HostileReceivers:
    """One for each kind of harm."""

    async def __aenter__(self) -> dict[str, str]:
        self._servers = {
            name: await asyncio.start_server(_harming(*said), "127.0.0.1", 0, backlog=100)
            for name, said in HARM.items()
        }
        return {name: _url(server) for name, server in self._servers.items()}

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers.values():
            server.close()


def _harming(head: bytes, chunk: bytes, seconds: float) -> Callable[..., object]:
    async def harm(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ending = time.monotonic() + HARM_SECONDS
        with suppress(OSError):
            writer.write(head)
            while time.monotonic() < ending:
                await asyncio.sleep(seconds)
                writer.write(chunk)
                await writer.drain()
        writer.close()

    return harm


async def _hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(HANGING_SECONDS)
    writer.close()


def _url(server: asyncio.AbstractServer) -> str:
    return f"http://127.0.0.1:{cast('asyncio.Server', server).sockets[0].getsockname()[1]}/"
