"""How answers become bytes: one encoder, so that the same thing always looks the same."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from litestar import Response

from service.store.engine import WholeSecond

T = TypeVar("T")
JSON = "application/json"


def _plain(value: Any) -> Any:
    if isinstance(value, WholeSecond):
        return value.isoformat(timespec="microseconds").replace("+00:00", "Z")
    raise TypeError(f"a {type(value).__name__} has no place in an answer")


ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def encode(value: Any) -> bytes:
    """`value` as JSON: times in UTC with six digits, payloads exactly as they are stored."""
    return ENCODER.encode(value)


def respond(value: T, *, status: int = 200, headers: dict[str, str] | None = None) -> Response[T]:
    """The answer whose body is `value`, encoded here and now."""
    content: Any = encode(value)
    return Response(content=content, status_code=status, headers=headers, media_type=JSON)
