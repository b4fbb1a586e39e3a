"""How answers become bytes."""

from __future__ import annotations

from typing import Any, TypeVar

from litestar import Response

from service.encoding import encode

__all__ = ["JSON", "encode", "respond"]

T = TypeVar("T")
JSON = "application/json"


def respond(value: T, *, status: int = 200, headers: dict[str, str] | None = None) -> Response[T]:
    """The answer whose body is `value`, encoded here and now."""
    content: Any = encode(value)
    return Response(content=content, status_code=status, headers=headers, media_type=JSON)
