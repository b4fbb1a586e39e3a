"""The outermost layer: a request's id, its line in the log, its place in the metrics. Unrouted requests included.

And an answer in our words where nothing below has given one: because it broke, or because the process stops and the
time of its requests is over. So the server in front of it never has to make one up.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from litestar import Litestar
from litestar.enums import ScopeType
from litestar.types import Message, Receive, Scope, Send

from service.domain.errors import DomainError, NotFound, Stopping
from service.domain.share import holder_of
from service.domain.ticket import Credential
from service.draining import GRACE_SECONDS, Drain
from service.handlers.addresses import nowhere
from service.handlers.answer_headers import CACHE_CONTROL, NOSNIFF, PRIVATE
from service.handlers.canonical_paths import is_canonical
from service.handlers.cross_origin import CrossOrigin, is_preflight
from service.handlers.head_requests import as_get, without_body
from service.handlers.identifiers import canonical_path
from service.handlers.problems import REQUEST_ID_KEY, InternalError, log_break, written
from service.handlers.rate_limits import STANDING_KEY, headers_of
from service.handlers.request_lines import CREDENTIAL_KEY, fields_of
from service.handlers.slow_bodies import in_time
from service.handlers.whole_answers import WholeAnswer
from service.ids import new_id
from service.log import get_logger
from service.metrics import Metrics
from service.rates import Standing
from service.unsent import COUNTED_BYTES_MIN, UnsentBytes

VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""Any id that proxies and tracers make; nothing that could break a log line or a header."""

UNROUTED = "unrouted"
QUIET_ROUTES = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Asked every few seconds by machines: their lines would only hide the others."""

API, HEALTH, METRICS = "/api/", "/health/", "/metrics"

WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""What may send a body that somebody reads; of the others it is dropped as it comes."""

STREAMS = "/stream"
"""How the routes end that are watched for as long as somebody likes."""

LAST_ANSWER_SECONDS = 1.0
"""For a client to take the last answer of a process that stops."""

CLOSE = (b"connection", b"close")
Header = tuple[bytes, bytes]

LOG = get_logger("http")


class Edge:
    """Wraps the whole app, so that whatever comes in is counted once and logged once."""

    def __init__(
        self,
        app: Litestar,
        metrics: Metrics,
        drain: Drain,
        unsent: UnsentBytes,
        cross_origin: CrossOrigin | None = None,
        metrics_port: int | None = None,
    ) -> None:
        self.app = app
        self.drain = drain
        """For the server to start when it is asked to stop."""
        self.unsent = unsent
        """What waits for clients to take it."""
        self.cross_origin = cross_origin
        """What pages of other origins may read; None: browsers keep every answer from them."""
        self.metrics = metrics
        self.metrics_port = metrics_port
        """Where the operator's pages are asked for, for the server to listen on; None: on the port of all others."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        method = scope["method"]
        if method == "HEAD":
            scope, send = as_get(scope), without_body(send)
        scope["path"] = canonical_path(scope["path"])
        request_id = _request_id(scope)
        scope[REQUEST_ID_KEY] = request_id  # type: ignore[literal-required]  # ASGI lets apps add keys
        headers = [(b"x-request-id", request_id.encode()), NOSNIFF]
        if self.cross_origin is not None:
            headers += self.cross_origin.headers_for(scope)
        status, answered = 0, 0.0

        async def send_with_id(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], time.perf_counter()
                message["headers"] = self._headers_of(scope, message["headers"], headers)
            await send(message)

        taken = in_time(receive, self.drain) if method in WITH_BODY else receive
        grace = self.drain.limit(None, at_stop=GRACE_SECONDS)
        answer, is_whole = WholeAnswer(send_with_id), False
        try:
            async with grace:
                await self._answer(scope, taken, answer.take)
                is_whole = answer.is_kept
                if is_whole:
                    await self._hand_over(scope, method, answer, send_with_id)
        except Exception as error:  # noqa: BLE001 - the server would answer it with a text, and log what it says
            if grace.is_over:
                LOG.warning("request.cut", request_id=request_id, is_answered=bool(status))
            else:
                log_break(scope, error)
            if not status:
                await _refuse(scope, send_with_id, Stopping() if grace.is_over else InternalError())
        finally:
            seconds = time.perf_counter() - started
            # A stream and a whole answer are answered when they begin; how long they are read is no latency.
            is_ready = is_whole or _route_of(scope).endswith(STREAMS)
            to_answer = answered - started if is_ready and answered else seconds
            self._record(scope, method, status, to_answer, seconds, request_id)

    async def _hand_over(self, scope: Any, method: str, answer: WholeAnswer, send: Send) -> None:
        """Send a whole answer, and count its bytes until it is taken; one for which there is no room is refused.

        Not the answer to a change that is made: it is sent in any case, and what follows is refused.
        """
        scope.get("state", {}).clear()  # the framework keeps the body of the request there
        credential: Credential | None = scope.get(CREDENTIAL_KEY)
        size = answer.size
        if credential is None or size < COUNTED_BYTES_MIN:
            await answer.send()
            return
        holder = holder_of(credential.caller)
        tells_of_change = method in WITH_BODY and answer.status < HTTPStatus.BAD_REQUEST
        try:
            (self.unsent.add if tells_of_change else self.unsent.add_fitting)(holder, size)
        except DomainError as refusal:
            answer.drop()
            await _refuse(scope, send, refusal)
            return
        try:
            await answer.send()
        finally:
            self.unsent.take_off(holder, size)

    def _headers_of(self, scope: Any, given: Iterable[Header], ours: list[Header]) -> list[Header]:
        """What goes on an answer: what it says itself, what all answers say, and what is left of a limit."""
        standing: Standing | None = scope.get(STANDING_KEY)
        headers = [*given, *ours]
        if standing:
            headers += headers_of(standing)
        if scope["path"].startswith(API) and CACHE_CONTROL not in dict(headers):
            headers.append(PRIVATE)
        if self.drain.has_started and CLOSE not in headers:
            headers.append(CLOSE)
        return headers

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.cross_origin is not None and is_preflight(scope):
            await self.cross_origin.answer_preflight(scope, send)
        elif not is_canonical(scope["raw_path"]):
            await _refuse(scope, send, NotFound(nowhere(self.app, scope["path"])))
        elif not self._is_served_here(scope):
            await _refuse(scope, send, NotFound())
        else:
            await self.app(scope, receive, send)

    def _is_served_here(self, scope: Any) -> bool:
        """Where there is a port for the operator: whether it came in at the port that its page belongs to."""
        if self.metrics_port is None:
            return True
        path: str = scope["path"]
        if scope["server"][1] == self.metrics_port:
            return path == METRICS or path.startswith(HEALTH)
        return path != METRICS

    def _record(self, scope: Any, method: str, status: int, to_answer: float, seconds: float, request_id: str) -> None:
        route = _route_of(scope)
        self.metrics.request_seconds.labels(method, route, status).observe(to_answer)
        if route not in QUIET_ROUTES:
            LOG.info(
                "request",
                method=method,
                route=route,
                status=status,
                duration_ms=round(seconds * 1000, 2),
                request_id=request_id,
                **fields_of(scope),
            )


async def _refuse(scope: Any, send: Send, error: DomainError) -> None:
    """Answer with a problem document; a client that does not take it in time gets none."""
    status, headers, body = written(error, scope["path"], scope[REQUEST_ID_KEY])
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_ANSWER_SECONDS):
            await send({"type": "http.response.start", "status": status.value, "headers": raw})
            await send({"type": "http.response.body", "body": body, "more_body": False})


def _route_of(scope: Any) -> str:
    return scope.get("path_template") or UNROUTED


def _request_id(scope: Any) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and VALID_REQUEST_ID.fullmatch(value):
            given: str = value.decode()
            return given
    return str(new_id())
