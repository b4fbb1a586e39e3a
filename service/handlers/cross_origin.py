"""Browsers of other origins (CORS, https://fetch.spec.whatwg.org/#http-cors-protocol): off unless they are set.

At the edge, and not Litestar's `CORSConfig`: that answers a refused preflight with 400 in plain text, echoes any origin
to a request with a cookie, and sees nothing of what is answered outside of the framework. Never with credentials: what
proves a caller is a header that its page sends itself, and no cookie of ours exists that a browser could add.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litestar.types import Scope, Send

ANY_ORIGIN = "*"
PREFLIGHT = "preflight"
"""What stands for the route in the log and in the metrics."""

METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE")
REQUEST_HEADERS = (
    "Authorization",
    "Content-Disposition",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Last-Event-ID",
    "Range",
    "X-Request-Id",
)
"""All that Holdfast reads. Named one by one, because `*` does not stand for `Authorization`."""

ANSWER_HEADERS = (
    "Accept-Patch",
    "Accept-Ranges",
    "Allow",
    "Content-Disposition",
    "Content-Length",
    "Content-Range",
    "ETag",
    "Idempotent-Replayed",
    "Location",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "RateLimit-Reset",
    "Retry-After",
    "WWW-Authenticate",
    "X-Cache",
    "X-Request-Id",
)
"""All that an answer may say in its headers; without this, a page could read none of them but the media type."""

MAX_AGE_SECONDS = 7200
"""Two hours, the longest that Chromium remembers a preflight (Firefox: a day); a new setting is seen as late."""

VARY_BY_ORIGIN = (b"vary", b"Origin")
"""For caches on the way: the answer to one origin is not the answer to another."""

EXPOSED = (b"access-control-expose-headers", ", ".join(ANSWER_HEADERS).encode())
PREFLIGHT_HEADERS = [
    (b"access-control-allow-methods", ", ".join(METHODS).encode()),
    (b"access-control-allow-headers", ", ".join(REQUEST_HEADERS).encode()),
    (b"access-control-max-age", b"%d" % MAX_AGE_SECONDS),
]


class CrossOrigin:
    """What answers say to pages of other origins. `origins`: these alone, or `*` for all."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._is_for_all = ANY_ORIGIN in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers_for(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """What goes on the answer, whatever it is: a success, a refusal, a stream."""
        if self._is_for_all:
            return [(b"access-control-allow-origin", b"*"), EXPOSED]
        origin = header_of(scope, b"origin")
        if origin not in self._origins:
            return [VARY_BY_ORIGIN]
        return [(b"access-control-allow-origin", origin), VARY_BY_ORIGIN, EXPOSED]

    async def answer_preflight(self, scope: Scope, send: Send) -> None:
        """Tell a browser what it may send. No credentials are looked at, and no limit counts it: browsers send none.

        An origin that is not named gets the same answer without `Access-Control-Allow-Origin`, which is a refusal.
        """
        scope["path_template"] = PREFLIGHT
        await send({"type": "http.response.start", "status": 204, "headers": PREFLIGHT_HEADERS})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def is_preflight(scope: Any) -> bool:
    """Whether a browser asks what it may send (https://fetch.spec.whatwg.org/#cors-preflight-fetch)."""
    return (
        scope["method"] == "OPTIONS"
        and header_of(scope, b"origin") is not None
        and header_of(scope, b"access-control-request-method") is not None
    )


def header_of(scope: Any, wanted: bytes) -> bytes | None:
    """The first value of a header."""
    return next((value for name, value in scope["headers"] if name == wanted), None)
