"""A receiver of webhooks on loopback: keeps what came, answers as it is told, verifies with the reference library."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

from eventually import DEADLINE_SECONDS
from standardwebhooks import Webhook

OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class Call(NamedTuple):
    """One request that came in."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def event(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    def verified_by(self, secret: str) -> dict[str, Any]:
        """The event, once its signature was verified; raises otherwise."""
        return dict(Webhook(secret).verify(self.body, self.headers))


Answer = Callable[[Call, asyncio.StreamWriter], Awaitable[bytes | None]]


def answering(status: int, *headers: str) -> Answer:
    """Always this status."""
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status} Told", *headers, "Content-Length: 0"))

    async def answer(_call: Call, _writer: asyncio.StreamWriter) -> bytes:
        return f"{head}\r\n".encode()

    return answer


class Receiver:
    """Listens on a free port of loopback for as long as the block lasts; `keeps` connections after an answer."""

    def __init__(self, answer: Answer | None = None, *, keeps: bool = False) -> None:
        self.keeps = keeps
        self.calls: list[Call] = []
        self.answer = answer or answering(204)
        self.came = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def __aenter__(self) -> Self:
        self._server = await self.listen()
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()

    async def listen(self) -> asyncio.Server:
        """Begin to take connections."""
        return await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=500)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer_one(reader, writer) and self.keeps:
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        call = Call(head[0].split()[1], headers, body, asyncio.get_running_loop().time())
        self.calls.append(call)
        self.came.set()
        said = await self.answer(call, writer)
        if said is None:
            return False
        writer.write(said)
        await writer.drain()
        return True

    async def until(self, count: int) -> list[Call]:
        """The calls, once there are so many."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(self.calls) < count:
                self.came.clear()
                await self.came.wait()
        return self.calls


@contextmanager
def receiving(answer: Answer | None = None) -> Iterator[Receiver]:
    """A receiver that answers in a thread of its own, for tests that have no loop."""
    loop = asyncio.new_event_loop()
    started, stop = threading.Event(), asyncio.Event()
    receiver = Receiver(answer)

    async def serve() -> None:
        async with receiver:
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert started.wait(DEADLINE_SECONDS)
    try:
        yield receiver
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(DEADLINE_SECONDS)
        loop.close()
