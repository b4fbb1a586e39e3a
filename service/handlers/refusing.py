"""Refusals of what never reaches the app of Holdfast; each is the last answer on its connection."""

from __future__ import annotations

from http import HTTPStatus

from litestar.types import ASGIApp, Receive, Scope, Send

from service.domain.errors import DomainError
from service.handlers.problems import written
from service.ids import new_id


def refusing(error: DomainError) -> ASGIApp:
    """An ASGI application that answers with `error` and closes the connection."""

    async def refuse(scope: Scope, _receive: Receive, send: Send) -> None:
        status, headers, body = _last_answer(error, scope["path"])
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status.value, "headers": raw})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return refuse


def written_out(error: DomainError) -> bytes:
    """The same answer as bytes of HTTP/1.1, for what never became a request."""
    status, headers, body = _last_answer(error, "")
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {headers[name]}" for name in headers)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _last_answer(error: DomainError, instance: str) -> tuple[HTTPStatus, dict[str, str], bytes]:
    request_id = str(new_id())
    status, headers, body = written(error, instance, request_id)
    headers |= {"X-Request-Id": request_id, "X-Content-Type-Options": "nosniff", "Connection": "close"}
    return status, headers, body
