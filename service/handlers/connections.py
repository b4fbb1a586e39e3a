"""A client's connection, and an end to every wait for it that uvicorn would wait for ever.

For the head of a request; for the rest of a body that was answered before it came; for a client to take what was sent
to it. And an end to how many there are. The body itself is `slow_bodies.in_time`'s, as a handler is waiting for it.
An answer that stays unfinished is cut off with its connection: uvicorn would add a text of its own.
"""

from __future__ import annotations

from asyncio import CancelledError, TimerHandle, Transport
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import msgspec
from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.domain.errors import DomainError, Fault, InvalidRequest, RequestTimeout, Unavailable
from service.draining import BEGINNING_SECONDS, Drain
from service.handlers.close_delimited import close_delimited, is_without_chunks
from service.handlers.problems import written
from service.handlers.upgrades import RequestParser
from service.ids import new_id

TOO_MANY = "This process has as many connections as it takes; try again in a moment."
TOO_LARGE = "The address and the headers are larger than any that make sense here"
MALFORMED = "This is not a request of HTTP/1.1 that can be read"


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long, and how much."""

    connections_max: int = 4000
    """Twice the streams that a process takes, so that they leave room for requests; 4,000 idle ones take 60 MB."""

    head_seconds: float = 20.0
    """From the first byte of a request's head to its last, and from the connection to the first request."""

    head_bytes: int = 64 * 1024
    """Eight times what common servers take. What comes in one piece with the end of the head is not counted."""

    late_body_seconds: float = 10.0
    """For the rest of a body that is answered already: a client that sends first and reads later gets to its end."""

    late_body_bytes: int = 16 * 1024 * 1024
    """The same in bytes. They are dropped as they come, which costs next to nothing; a tenth of a file at the most."""

    unread_seconds: float = 60.0
    """For a client to take a buffer of 64 KiB: 1 KiB a second, as of bodies."""

    refused_seconds: float = 1.0
    """For the request of a client that is one too many, so that it reads its refusal and not a broken line."""


class Connection(HttpToolsProtocol):
    """One connection of HTTP/1.1."""

    def __init__(
        self, *args: Any, patience: Patience, drain: Drain, ended: Counter | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._drain = drain
        self.parser = cast("Any", RequestParser(self))
        self._patience = patience
        self._ended = ended
        self._is_refused = False
        self._in_head = False
        self._head_bytes = 0
        self._has_whole_body = True
        self._late_bytes = 0
        self._running: RequestResponseCycle | None = None
        """The request that is being answered; `cycle` is the newest one, which may wait behind it."""
        self._deadline: TimerHandle | None = None
        """When the client must have sent what is waited for."""
        self._unread_deadline: TimerHandle | None = None
        """When it must have taken what was sent to it."""

    # What comes in

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for a request; of one connection too many, only to refuse it."""
        super().connection_made(transport)
        if len(self.connections) > self._patience.connections_max:
            self._is_refused = True
            self._set_deadline(self._patience.refused_seconds, self._refuse)
        else:
            seconds = BEGINNING_SECONDS if self._drain.has_started else self._patience.head_seconds
            self._set_deadline(seconds, self._on_late_head)

    def data_received(self, data: bytes) -> None:
        """Take what comes, unless it is too much of what nobody wants."""
        if self._is_refused:
            self._refuse()
            return
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > self._patience.head_bytes:
                self._answer(InvalidRequest([Fault("header", TOO_LARGE)]), "head_size")
            elif self._deadline is None:
                self._set_deadline(self._patience.head_seconds, self._on_late_head)
        elif not self._is_answering:
            self._take_late_body(data)

    def _take_late_body(self, data: bytes) -> None:
        if self._has_whole_body:
            if self.timeout_keep_alive_task is None:
                self._keep_alive()
        else:
            self._late_bytes += len(data)
            if self._late_bytes > self._patience.late_body_bytes:
                self._on_late_body()

    def on_message_begin(self) -> None:
        """Begin to read a request's head."""
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Begin to answer, and to read the body."""
        self._in_head = False
        self._has_whole_body = False
        self._clear_deadline()
        super().on_headers_complete()
        if is_without_chunks(self.cycle):  # nor does it know of 100 (RFC 9110, section 10.1.1)
            self.cycle.waiting_for_100_continue = False

    def on_message_complete(self) -> None:
        """Note that all of it is there."""
        self._has_whole_body = True
        if self.cycle.response_complete:
            self._clear_deadline()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one: or for the answer to be taken, if it is the last."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._set_unread_deadline()
        elif not self._has_whole_body and self.cycle.response_complete:
            self._late_bytes = 0
            self._set_deadline(self._patience.late_body_seconds, self._on_late_body)

    def _keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, partial(self._answer_with, cycle, app))

    async def _answer_with(self, cycle: RequestResponseCycle, app: Any, scope: Any, receive: Any, send: Any) -> None:
        """Have the app answer, and cut off what it leaves unfinished."""
        try:
            await app(scope, receive, close_delimited(cycle, send) if is_without_chunks(cycle) else send)
        except CancelledError:  # by uvicorn, at the end of a stop; nothing follows in this task
            pass
        finally:
            if not cycle.response_complete and not cycle.disconnected:
                cycle.disconnected = True  # so nothing is added to it
                self._cut()

    def _cut(self) -> None:
        if self._drain.has_started:  # a client that does not take its answer holds up no stop
            self.transport.abort()
        else:
            self.transport.close()
            self._set_unread_deadline()

    # What goes out

    def pause_writing(self) -> None:
        """Note that the client takes less than is sent to it."""
        super().pause_writing()
        self._set_unread_deadline()

    def resume_writing(self) -> None:
        """Note that it has taken most of it."""
        super().resume_writing()
        if self._unread_deadline is not None and not self.transport.is_closing():
            self._unread_deadline.cancel()
            self._unread_deadline = None

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which no further request came."""
        super().timeout_keep_alive_handler()
        self._set_unread_deadline()

    def shutdown(self) -> None:
        """Close it once what is being answered is answered."""
        super().shutdown()
        if self.transport.is_closing():
            self._set_unread_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, and tell whoever answers."""
        self._clear_deadline()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        if self._unread_deadline is not None:
            self._unread_deadline.cancel()
        super().connection_lost(exc)

    # What comes to an end

    @property
    def _is_answering(self) -> bool:
        cycle = cast("RequestResponseCycle | None", self.cycle)  # of a new connection there is none
        return cycle is not None and not cycle.response_complete

    def _on_late_head(self) -> None:
        self._deadline = None
        if self._is_answering:  # the request before it
            self._set_deadline(self._patience.head_seconds, self._on_late_head)
        elif self._in_head:
            self._answer(RequestTimeout(), "head")
        else:
            self._end("idle")

    def _on_late_body(self) -> None:
        self._end("late_body")

    def _on_unread(self) -> None:
        self._count("unread")
        self.transport.abort()

    def _refuse(self) -> None:
        self._answer(Unavailable(TOO_MANY), "too_many")

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in our words instead of `msg`."""
        del msg
        self._answer(InvalidRequest([Fault("request", MALFORMED)]), "malformed")

    def _answer(self, error: DomainError, why: str) -> None:
        """Answer what never became a request, and close."""
        if not self._is_answering:  # else the answer before it would be spoilt
            request_id = str(new_id())
            status, headers, body = written(error, "", request_id)
            headers |= {"X-Request-Id": request_id, "X-Content-Type-Options": "nosniff", "Connection": "close"}
            lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {headers[name]}" for name in headers)]
            self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        self._end(why)

    def _end(self, why: str) -> None:
        self._count(why)
        self._clear_deadline()
        self.transport.close()
        self._set_unread_deadline()

    def _count(self, why: str) -> None:
        if self._ended is not None:
            self._ended.labels(why).inc()

    def _set_deadline(self, seconds: float, on_late: Callable[[], None]) -> None:
        self._clear_deadline()
        self._deadline = self.loop.call_later(seconds, on_late)

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _set_unread_deadline(self) -> None:
        if self._unread_deadline is None:
            self._unread_deadline = self.loop.call_later(self._patience.unread_seconds, self._on_unread)
