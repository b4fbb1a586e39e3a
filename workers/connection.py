"""One connection to a receiver: one POST at a time goes over it, and little is read of whatever comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import h11
import msgspec

ANSWER_BYTES_MAX = 64 * 1024
"""What is read of an answer at the most, its headers included, as it comes and without unpacking it."""


class BadAnswer(Exception):
    """What came back is no HTTP, ends in the middle, or has no end to its headers."""


class WasClosed(Exception):
    """The receiver had closed a kept connection before it saw the request, as far as can be told."""


class Head(msgspec.Struct, frozen=True):
    """What matters of an answer's head."""

    status: int
    retry_after: str | None


class Connection(asyncio.Protocol):
    """Speaks HTTP/1.1 by `h11`; the transport below it may be TLS or not."""

    def __init__(self) -> None:
        self.is_open = False
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=ANSWER_BYTES_MAX)
        self._posts = 0
        self._read_bytes = 0
        self._head: asyncio.Future[Head] | None = None
        self._end: asyncio.Future[None] | None = None
        self._when_closed: Callable[[], None] | None = None

    async def post(self, target: str, headers: list[tuple[str, str]], body: bytes) -> Head:
        """Send a request, and wait for the head of its answer.

        Raises:
            BadAnswer: what came is no answer.
            WasClosed: the connection had been used before, and nothing came.
            OSError: it broke.
        """
        loop = asyncio.get_running_loop()
        if self._posts:
            self._http.start_next_cycle()
        self._posts += 1
        self._read_bytes = 0
        self._head, self._end, self._when_closed = loop.create_future(), loop.create_future(), None
        if not self.is_open:
            self.connection_lost(None)
        else:
            events = (
                h11.Request(method="POST", target=target, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            self._transport.write(b"".join(self._http.send(event) or b"" for event in events))
        return await self._head

    async def read_rest(self) -> bool:
        """Wait for the end of the answer, or for as much as is read of one; whether another request can follow."""
        if self._end is not None:
            await self._end
        return self.is_open and self._is_between_requests()

    def keep(self, when_closed: Callable[[], None]) -> None:
        """Nothing is expected until the next request; tell when the receiver closes."""
        self._when_closed = when_closed

    def close(self) -> None:
        """Close at once; what has not gone out does not."""
        self.is_open = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open."""
        self._transport = cast("asyncio.Transport", transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        """A part of the answer; anything while none is due ends the connection."""
        self._read_bytes += len(data)
        self._take(data)

    def eof_received(self) -> None:
        """No more will come, which ends an answer without a length."""
        if self._posts > 1 and not self._read_bytes:
            self._fail(WasClosed())
        else:
            self._take(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by whomever."""
        self.is_open = False
        if self._posts > 1 and not self._read_bytes:
            self._fail(WasClosed())
        self._fail(exc or ConnectionResetError("the connection was lost"))
        if self._when_closed is not None:
            self._when_closed()

    def _take(self, data: bytes) -> None:
        if self._end is None or self._end.done():
            self.close()
            return
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    break
                if isinstance(event, h11.Response):
                    self._begin(event)
                elif isinstance(event, h11.EndOfMessage):
                    self._end.set_result(None)
                    return
        except h11.RemoteProtocolError as error:
            self._fail(BadAnswer(str(error)))
            return
        if self._read_bytes >= ANSWER_BYTES_MAX:
            self._fail(BadAnswer("too long"))

    def _begin(self, response: h11.Response) -> None:
        found = [value for name, value in response.headers if name == b"retry-after"]
        if self._head is not None and not self._head.done():
            self._head.set_result(Head(response.status_code, found[0].decode("latin-1") if found else None))

    def _fail(self, error: Exception) -> None:
        """No answer comes; where its head has come, no more of it."""
        if self._head is not None and not self._head.done():
            self._head.set_exception(error)
        if self._end is not None and not self._end.done():
            self._end.set_result(None)
        if self.is_open:
            self.close()

    def _is_between_requests(self) -> bool:
        unasked, _ = self._http.trailing_data
        return self._http.our_state is self._http.their_state is h11.DONE and not unasked
