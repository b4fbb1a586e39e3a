"""A client's connection, and an end to every wait for it that uvicorn would wait for ever.

For the head of a request; for the rest of a body that was answered before it came; for a client to take what was sent
to it. The body itself is `slow_bodies.in_time`'s, as a handler waits for it. An unfinished answer is cut off with its
connection: uvicorn would add a text of its own. Behind bytes that cannot be read nothing is read: the request that they
belong to is refused, what was asked before is answered, and the connection is closed.
"""

from __future__ import annotations

from asyncio import CancelledError, TimerHandle, Transport
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from httptools import HttpParserError
from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.domain.errors import DomainError, Fault, InvalidRequest, RequestTimeout, TooManyConnections
from service.draining import BEGINNING_SECONDS, Drain
from service.handlers.admission import Admission
from service.handlers.answer_pieces import bound_buffers, in_pieces
from service.handlers.close_delimited import close_delimited, is_without_chunks
from service.handlers.heads import MALFORMED, error_in_head
from service.handlers.patience import Patience
from service.handlers.refusing import refusing, written_out
from service.handlers.upgrades import RequestParser
from service.log import get_logger

PIPELINED_MAX = 16
"""Requests of one connection that wait behind the one that is being answered. A packet of 63 KB has 1,700, which cost
4 MB and 30 ms before any is answered (measured); clients that send ahead send a few."""

TOO_MANY_AT_ONCE = f"{PIPELINED_MAX} requests wait on this connection already; read their answers before you send more."
TOO_LARGE = "The address and the headers are larger than any that make sense here"
REFUSED = frozenset({"malformed", "head", "head_size", "too_many", "pipelined"})
"""Ends for which there is no line of a request: what came never was one, or none that is answered."""

BROKEN_CHUNKS = "Its chunks, or what follows them, are not as RFC 9112 has them (section 7.1)"
BAD_CHUNKS = {"type": "http.disconnect", "fault": BROKEN_CHUNKS}
"""What reads a body gets in its place: the end of the sender, and why it came."""

LOG = get_logger("http")


class Connection(HttpToolsProtocol):
    """One connection of HTTP/1.1."""

    def __init__(
        self,
        *args: Any,
        patience: Patience,
        drain: Drain,
        admission: Admission,
        ended: Counter | None = None,
        **kw: Any,
    ) -> None:
        super().__init__(*args, **kw)
        self._admission = admission
        self._drain = drain
        self.parser = cast("Any", RequestParser(self))
        self._patience = patience
        self._ended = ended
        self._refusal: DomainError | None = None
        self._is_deaf = False  # True: what came cannot be read, so nothing behind it is
        self._broken: RequestResponseCycle | None = None  # the request whose body cannot be read any further
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
        bound_buffers(transport)
        self._refusal = self._admission.admit(self, self.client[0] if self.client else None)
        if self._refusal is not None:
            self._set_deadline(self._patience.refused_seconds, self._refuse)
        else:
            seconds = BEGINNING_SECONDS if self._drain.has_started else self._patience.head_seconds
            self._set_deadline(self._idle_seconds(seconds), self._on_late_head)

    def _idle_seconds(self, usual: float) -> float:
        """How long to wait for a request; a proxy's connections keep their time, as it counts on it."""
        if not self._admission.is_nearly_full or self._admission.is_of_proxy(self):
            return usual
        return min(usual, self._patience.crowded_seconds)

    def data_received(self, data: bytes) -> None:
        """Take what comes, unless it is too much of what nobody wants."""
        if self._refusal is not None:
            self._refuse()
            return
        if not self._is_deaf:
            super().data_received(data)
        if self._is_deaf or self.transport.is_closing():
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
        """Begin to answer, and to read the body; a head that must be refused is the last that is read.

        Raises:
            HttpParserError: it was refused.
        """
        self._clear_deadline()
        error = error_in_head(self.parser.get_http_version(), self.headers)
        is_too_many = error is None and len(self.pipeline) >= PIPELINED_MAX
        if is_too_many:
            error = TooManyConnections(TOO_MANY_AT_ONCE)
        if error is not None:
            self._is_deaf = True
            self._count("pipelined" if is_too_many else "malformed")
            self.app = cast("Any", refusing(error))  # in its turn, behind what was asked before it
        super().on_headers_complete()
        self._in_head = False
        self._has_whole_body = False
        self._admission.note_busy(self)
        if self._is_deaf:
            raise HttpParserError(MALFORMED)
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
        self.timeout_keep_alive = cast("int", self._idle_seconds(self.config.timeout_keep_alive))
        super().on_response_complete()
        if not self._is_answering:
            self._admission.note_idle(self)
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

        async def receive_sound() -> Any:
            message = await receive()
            return BAD_CHUNKS if self._broken is cycle else message

        sending = close_delimited(cycle, send) if is_without_chunks(cycle) else send
        try:
            await app(scope, receive_sound, in_pieces(sending, self._patience, self._on_unread))
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
        self._admission.leave(self)
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
        if self._refusal is not None:
            self._answer(self._refusal, "too_many")

    def drop(self) -> None:
        """Make room for another connection: this one has been idle longest."""
        self._end("dropped")
        if self.transport.get_write_buffer_size():  # else it would stay for as long as nobody takes its last answer
            self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, in our words instead of `msg`; what belongs to a request is that one's end."""
        del msg
        if self._is_deaf:
            return  # its head is being refused
        self._is_deaf = True
        is_in_body = not self._in_head and not self._has_whole_body
        if self._is_answering:
            self._count("malformed")
            self.cycle.keep_alive = False
            if is_in_body:
                self._broken = self.cycle
                self.cycle.message_event.set()
        elif is_in_body:  # it was answered before
            self._end("malformed")
        else:
            self._answer(InvalidRequest([Fault("request", MALFORMED)]), "malformed")

    def _answer(self, error: DomainError, why: str) -> None:
        """Answer what never became a request, and close."""
        if not self._is_answering:  # else the answer before it would be spoilt
            self.transport.write(written_out(error))
        self._end(why)

    def _end(self, why: str) -> None:
        self._count(why)
        self._clear_deadline()
        self.transport.close()
        self._set_unread_deadline()

    def _count(self, why: str) -> None:
        if self._ended is not None:
            self._ended.labels(why).inc()
        if why in REFUSED:
            LOG.info("connection.refused", reason=why, address=self.client[0] if self.client else None)

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
