"""Refusals as RFC 9457 problem documents; the one table of HTTP statuses."""

from __future__ import annotations

import re
import traceback
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    ClientException,
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    ValidationException,
)
from litestar.status_codes import HTTP_413_REQUEST_ENTITY_TOO_LARGE

from service.domain import errors
from service.domain.errors import DomainError, Fault
from service.handlers.addresses import nowhere
from service.handlers.bodies import taken_by
from service.handlers.encoding import encode
from service.handlers.queries import QUERY_FAULTS_KEY, name_of
from service.log import get_logger

LOG = get_logger("http")

PROBLEM_JSON = "application/problem+json"
REQUEST_ID_KEY = "holdfast.request_id"
"""Where the edge leaves the request's id in the ASGI scope."""

RETRY_AFTER_SECONDS = 1
"""A restarted PostgreSQL answers within one to two seconds (measured); a lock is free sooner."""

STATUSES: dict[str, HTTPStatus] = {
    "invalid_request": HTTPStatus.BAD_REQUEST,
    "invalid_cursor": HTTPStatus.BAD_REQUEST,
    "unauthenticated": HTTPStatus.UNAUTHORIZED,
    "insufficient_scope": HTTPStatus.FORBIDDEN,
    "not_found": HTTPStatus.NOT_FOUND,
    "session_not_found": HTTPStatus.NOT_FOUND,
    "message_not_found": HTTPStatus.NOT_FOUND,
    "tool_call_not_found": HTTPStatus.NOT_FOUND,
    "attachment_not_found": HTTPStatus.NOT_FOUND,
    "webhook_not_found": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "invalid_transition": HTTPStatus.CONFLICT,
    "session_not_active": HTTPStatus.CONFLICT,
    "session_ended": HTTPStatus.CONFLICT,
    "already_decided": HTTPStatus.CONFLICT,
    "message_limit_exceeded": HTTPStatus.CONFLICT,
    "attachment_limit_exceeded": HTTPStatus.CONFLICT,
    "attachment_not_ready": HTTPStatus.CONFLICT,
    "webhook_limit_exceeded": HTTPStatus.CONFLICT,
    "already_exists": HTTPStatus.CONFLICT,
    "request_in_progress": HTTPStatus.CONFLICT,
    "kept_answer_lost": HTTPStatus.CONFLICT,
    "session_expired": HTTPStatus.GONE,
    "version_mismatch": HTTPStatus.PRECONDITION_FAILED,
    "payload_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "attachment_too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "range_not_satisfiable": HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "invalid_reference": HTTPStatus.UNPROCESSABLE_ENTITY,
    "idempotency_key_reused": HTTPStatus.UNPROCESSABLE_ENTITY,
    "request_timeout": HTTPStatus.REQUEST_TIMEOUT,
    "rate_limited": HTTPStatus.TOO_MANY_REQUESTS,
    "internal_error": HTTPStatus.INTERNAL_SERVER_ERROR,
    "unsupported_transfer_coding": HTTPStatus.NOT_IMPLEMENTED,
    "unavailable": HTTPStatus.SERVICE_UNAVAILABLE,
    "storage_full": HTTPStatus.INSUFFICIENT_STORAGE,
}
"""Code → status. A test holds it complete: every error class of the domain is in it."""


class InternalError(DomainError):
    """Something broke on our side; the request_id leads to the line in the log that says what."""

    code = "internal_error"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal (RFC 9457). Further members name what stands in the way: `errors`, `allowed`, `current_status` …"""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str


def title_of(code: str) -> str:
    """The code as words: `session_not_found` → `Session not found`."""
    return code.replace("_", " ").capitalize()


def headers_of(error: DomainError) -> dict[str, str]:
    """The headers that go with a refusal."""
    headers: dict[str, str] = {}
    match error:
        case errors.Unauthenticated():
            headers["WWW-Authenticate"] = "Bearer"
        case errors.Unavailable() | errors.RequestInProgress():
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        case errors.RateLimited():
            headers["Retry-After"] = str(error.after_seconds)
        case errors.RequestTimeout():
            headers["Connection"] = "close"
        case errors.UnsupportedPatch():
            headers["Accept-Patch"] = ", ".join(taken_by("PATCH"))  # RFC 5789, section 3.1
        case errors.MethodNotAllowed():
            headers["Allow"] = ", ".join(error.extras["allowed_methods"])
        case errors.RangeNotSatisfiable():
            headers["Content-Range"] = f"bytes */{error.extras['size']}"
        case _:
            pass
    return headers


def problem_response(request: Request[Any, Any, Any], error: DomainError) -> Response[bytes]:
    """The problem document of a refusal."""
    document = document_of(error, request.scope["path"], request.scope.get(REQUEST_ID_KEY, ""))
    return Response(
        content=encode(document),
        status_code=STATUSES[error.code].value,
        media_type=PROBLEM_JSON,
        headers=headers_of(error),
    )


def written(error: DomainError, instance: str, request_id: str) -> tuple[HTTPStatus, dict[str, str], bytes]:
    """A refusal as status, headers and body, for what answers without the framework."""
    body = encode(document_of(error, instance, request_id))
    return (
        STATUSES[error.code],
        headers_of(error) | {"Content-Type": PROBLEM_JSON, "Content-Length": str(len(body))},
        body,
    )


def document_of(error: DomainError, instance: str, request_id: Any) -> dict[str, Any]:
    """The members of a problem document."""
    return {
        "type": f"/problems/{error.code}",
        "title": title_of(error.code),
        "status": STATUSES[error.code].value,
        "detail": error.detail,
        "instance": instance,
        "code": error.code,
        "request_id": request_id,
    } | error.extras


def on_domain_error(request: Request[Any, Any, Any], error: DomainError) -> Response[bytes]:
    """Answer a refusal; one that is our own trouble gets its line in the log here."""
    if isinstance(error, errors.Unavailable):
        _log_trouble(request, error)
    return problem_response(request, error)


def _log_trouble(request: Request[Any, Any, Any], error: errors.Unavailable) -> None:
    cause = error.__cause__
    known = {
        "request_id": request.scope.get(REQUEST_ID_KEY),
        "error": None if cause is None else type(cause).__name__,
    }
    match error:
        case errors.StorageUnavailable():
            LOG.warning("storage.unavailable", **known)
        case errors.SearchTooSlow():
            LOG.warning("search.too_slow", **known)
        case errors.TenantTooBusy():
            LOG.warning("tenant.too_busy", **known)
        case errors.ProcessFull():
            LOG.warning("process.full", **known)
        case errors.Stopping() | errors.IssuerAway():
            pass  # the first is no trouble, the second has its own line of the fetch
        case _:
            LOG.warning("database.unavailable", **known)


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Answer what the framework itself refused, in our words."""
    return problem_response(request, _translated(request, error))


def on_exception(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Answer what nobody expected: the caller learns nothing but the id, the log where it broke."""
    log_break(request.scope, error)
    return problem_response(request, InternalError())


def _translated(request: Request[Any, Any, Any], error: HTTPException) -> DomainError:
    match error:
        case ValidationException():
            return errors.InvalidRequest(_faults(request, error))
        case NotFoundException():
            return errors.NotFound(nowhere(request.app, request.scope["path"]))
        case MethodNotAllowedException():
            return errors.MethodNotAllowed(allowed_methods=_allowed_methods(error))
        case ClientException() if error.status_code == HTTP_413_REQUEST_ENTITY_TOO_LARGE:
            return errors.PayloadTooLarge()
        case ClientException():
            return errors.InvalidRequest([Fault("request", error.detail)])
        case _:
            log_break(request.scope, error)
            return InternalError()


def log_break(scope: Any, error: Exception) -> None:
    """One line with the kinds of the errors and the frames they passed, and not their texts: a driver's text quotes

    the values that it stumbled over, and with them somebody's words.
    """
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    LOG.error(
        "request.broke",
        request_id=scope.get(REQUEST_ID_KEY),
        errors=[f"{type(kind).__module__}.{type(kind).__qualname__}" for kind in chain],
        frames=[
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for kind in chain
            for frame in traceback.extract_tb(kind.__traceback__)
        ],
    )


def _allowed_methods(error: HTTPException) -> list[str]:
    listed = {name.lower(): value for name, value in (error.headers or {}).items()}.get("allow", "")
    methods = {method.strip() for method in listed.split(",") if method.strip()}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)  # see head_requests


MISSING = re.compile(r"missing required field|^'\w+'$")


def _faults(request: Request[Any, Any, Any], error: ValidationException) -> list[Fault]:
    extra: Any = error.extra
    of_query: Any = request.scope.get(QUERY_FAULTS_KEY, ())
    faults: list[Fault] = [*of_query]
    for entry in extra if isinstance(extra, list) else []:
        key, message = str(entry.get("key", "")), str(entry.get("message", ""))
        if key in {"", "data"}:
            faults.append(Fault("body", "A JSON body is required"))
        else:
            name = name_of(request.route_handler, key)
            faults.append(Fault(f"query.{name}", "Required" if MISSING.search(message) else message))
    return faults or [Fault("request", error.detail)]
