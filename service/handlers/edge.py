"""The outermost layer: a request's id, its line in the log, its place in the metrics. Unrouted requests included."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from service.handlers.problems import REQUEST_ID_KEY
from service.handlers.rate_limits import STANDING_KEY, headers_of
from service.handlers.slow_bodies import in_time
from service.ids import new_id
from service.log import get_logger
from service.metrics import Metrics

VALID_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
"""Any id that proxies and tracers make; nothing that could break a log line or a header."""

UNROUTED = "unrouted"
QUIET_ROUTES = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Asked every few seconds by machines: their lines would only hide the others."""

WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""What may send a body that somebody reads; of the others it is dropped as it comes."""

STREAMS = "/stream"
"""How the routes end that are watched for as long as somebody likes."""

LOG = get_logger("http")


class Edge:
    """Wraps the whole app, so that whatever comes in is counted once and logged once."""

    def __init__(self, app: ASGIApp, metrics: Metrics, on_stop: Callable[[], None] = lambda: None) -> None:
        self.app = app
        self.on_stop = on_stop
        """For whoever runs the app to call when it is asked to stop: what would never end by itself ends now."""
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != ScopeType.HTTP:
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        scope[REQUEST_ID_KEY] = request_id  # type: ignore[literal-required]  # ASGI lets apps add keys
        header = (b"x-request-id", request_id.encode())
        status, answered = 0, 0.0

        async def send_with_id(message: Message) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = message["status"], time.perf_counter()
                standing: Any = scope.get(STANDING_KEY)
                message["headers"] = [*message["headers"], header, *(headers_of(standing) if standing else ())]
            await send(message)

        try:
            await self.app(scope, in_time(receive) if scope["method"] in WITH_BODY else receive, send_with_id)
        finally:
            self._record(scope, status, started, answered, request_id)

    def _record(self, scope: Any, status: int, started: float, answered: float, request_id: str) -> None:
        route = scope.get("path_template") or UNROUTED
        seconds = time.perf_counter() - started
        # A stream is answered when it begins; how long it was watched is no latency.
        to_answer = answered - started if route.endswith(STREAMS) and answered else seconds
        self.metrics.request_seconds.labels(scope["method"], route, status).observe(to_answer)
        if route not in QUIET_ROUTES:
            LOG.info(
                "request",
                method=scope["method"],
                route=route,
                path=scope["path"],
                status=status,
                duration_ms=round(seconds * 1000, 2),
                request_id=request_id,
            )


def _request_id(scope: Any) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and VALID_REQUEST_ID.fullmatch(value):
            given: str = value.decode()
            return given
    return str(new_id())
