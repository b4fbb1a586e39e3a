"""A real server on a socket for the app of a test, and clients that write what they like, when they like."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any, cast

import uvicorn
from eventually import DEADLINE_SECONDS, until

from service.handlers.connections import Connection
from service.handlers.patience import Patience

NEVER = 3600.0
NARROW_BYTES = 4096

PATIENT = Patience(head_seconds=NEVER, late_body_seconds=NEVER, unread_seconds=NEVER)


class Client:
    """A client that writes what it likes, when it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        self._reader, self._writer, self._key = reader, writer, key

    async def send(self, content: bytes) -> None:
        self._writer.write(content)
        await self._writer.drain()

    def head(self, method: str, path: str, **headers: object) -> bytes:
        """A request's head."""
        wanted = {"Host": "holdfast", "Authorization": f"Bearer {self._key}"} | headers
        lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in wanted.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n"

    async def begin(self, method: str, path: str, **headers: object) -> None:
        """Send a request's head."""
        await self.send(self.head(method, path, **headers))

    async def answer(self) -> tuple[int, dict[str, str], Any]:
        """The next answer: status, headers, and the JSON of its body."""
        status, headers = await self.answer_head()
        async with asyncio.timeout(DEADLINE_SECONDS):
            body = await self._reader.readexactly(int(headers["content-length"]))
        return status, headers, json.loads(body)

    async def exactly(self, size: int) -> bytes:
        """The next `size` bytes."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._reader.readexactly(size)

    async def piece(self) -> bytes:
        """A little of what has come; nothing at the end of the connection."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                return await self._reader.read(1024)
            except ConnectionError:
                return b""

    async def answer_head(self) -> tuple[int, dict[str, str]]:
        """The head of the next answer, which is all of it where HEAD was asked: status and headers."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return int(status.split()[1]), headers

    async def is_closed(self) -> bool:
        """Wait until the server closes the connection, and nothing more comes."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                return await self._reader.read(1) == b""
            except ConnectionError:
                return True

    async def is_invited(self) -> None:
        """Wait for the invitation to send the body."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert (await self._reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")

    async def read_until(self, end: bytes) -> bytes:
        """What comes, up to and with `end`."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await self._reader.readuntil(end)

    async def rest(self) -> bytes:
        """All that comes until the server closes the connection."""
        everything = b""
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                while piece := await self._reader.read(65_536):
                    everything += piece
            except ConnectionError:  # it was cut off
                pass
        return everything

    def hang_up(self) -> None:
        self._writer.close()


class Served:
    """The app behind uvicorn, as it runs in earnest, and clients of it."""

    def __init__(self, edge: Any, server: uvicorn.Server, address: tuple[str, int], key: str) -> None:
        self.edge, self._server, self._address, self._key = edge, server, address, key
        self._clients: list[Client] = []

    @property
    def url(self) -> str:
        """Where it listens, for clients that speak HTTP themselves."""
        host, port = self._address
        return f"http://{host}:{port}"

    async def connect(self, key: str | None = None, **options: Any) -> Client:
        """A client with the key of the server's tenant, or with another one."""
        reader, writer = await asyncio.open_connection(*self._address, **options)
        client = Client(reader, writer, key or self._key)
        self._clients.append(client)
        return client

    async def connect_narrow(self, key: str | None = None) -> Client:
        """A client whose system takes a few KiB for it: the rest stays with the server until the client reads."""
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        narrow.settimeout(0)
        await asyncio.get_running_loop().sock_connect(narrow, self._address)
        reader, writer = await asyncio.open_connection(sock=narrow, limit=NARROW_BYTES)
        client = Client(reader, writer, key or self._key)
        self._clients.append(client)
        return client

    @property
    def buffered(self) -> list[int]:
        """The bytes that each connection holds for its client."""
        connections = cast("set[Connection]", self._server.server_state.connections)
        return [connection.transport.get_write_buffer_size() for connection in connections]

    def ended(self, reason: str) -> float:
        """How many connections were ended for this reason."""
        counted = self.edge.metrics.registry.get_sample_value("holdfast_connections_ended_total", {"reason": reason})
        return counted or 0.0

    def be(self, patience: Patience) -> None:
        """Be so patient from now on, on the connections that there are."""
        for connection in cast("set[Connection]", self._server.server_state.connections):
            connection._patience = patience

    async def until_open(self, connections: int) -> None:
        """Wait until so many connections are open."""
        await until(lambda: len(self._server.server_state.connections) == connections)

    async def until_begun(self) -> None:
        """Wait until there is a connection, and on each of them a request has begun."""
        connections = cast("set[Connection]", self._server.server_state.connections)
        await until(lambda: bool(connections) and all(connection.cycle for connection in connections))

    async def until_waiting(self, requests: int) -> None:
        """Wait until so many requests wait behind others of their connections."""
        connections = cast("set[Connection]", self._server.server_state.connections)
        await until(lambda: sum(len(connection.pipeline) for connection in connections) == requests)

    async def until_read(self) -> None:
        """Wait until the server has read what was sent before: it reads a later request only then."""
        client = await self.connect()
        await client.begin("GET", "/api/v1/sessions")
        await client.answer()

    def is_stalled(self) -> bool:
        """Whether a client takes nothing of what is sent to it."""
        connections = cast("set[Connection]", self._server.server_state.connections)
        return any(connection.flow.write_paused for connection in connections)

    def cancel_requests(self) -> None:
        """Do what uvicorn does to requests that outlast a stop."""
        for task in self._server.server_state.tasks:
            task.cancel()

    def hang_up(self) -> None:
        for client in self._clients:
            client.hang_up()
