"""What a route can answer: its success, its empty answers, and every problem that it can end with."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, get_args

from litestar.handlers import HTTPRouteHandler

from service.domain import errors
from service.domain.attachment import Attachment
from service.domain.errors import DomainError
from service.domain.message import Message
from service.domain.session import Session
from service.handlers.openapi import ALSO, BINARY, CACHED, CONDITIONAL, REFUSALS, STREAM
from service.handlers.openapi.schemas import REF, Schemas
from service.handlers.problems import PROBLEM_JSON, STATUSES, title_of

RATE_HEADERS = ("Retry-After", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")
REFUSAL_HEADERS: dict[type[DomainError], tuple[str, ...]] = {
    errors.Unauthenticated: ("WWW-Authenticate",),
    errors.Unavailable: ("Retry-After",),
    errors.RateLimited: RATE_HEADERS,
    errors.TooManyStreams: ("Retry-After",),
    errors.TooManyWaits: ("Retry-After",),
    errors.TooManyUploads: ("Retry-After",),
    errors.RequestInProgress: ("Retry-After",),
    errors.UnsupportedPatch: ("Accept-Patch",),
}


def answer_of(handler: HTTPRouteHandler) -> Any:
    """What the handler answers with: the `T` of its `Response[T]`; None: no JSON body."""
    (kind,) = get_args(handler.parsed_fn_signature.return_type.annotation)
    return None if kind in {None, type(None), bytes} else kind


def responses_of(handler: HTTPRouteHandler, is_guarded: bool, schemas: Schemas) -> dict[str, Any]:
    """Everything that a route can answer, by status."""
    answer = answer_of(handler)
    success: dict[str, Any] = {"description": "Done.", "headers": _success_headers(handler)}
    if answer is not None:
        success["content"] = {"application/json": {"schema": schemas.reference(answer)}}
    elif handler.opt.get(BINARY):
        success["content"] = {handler.opt[BINARY]: {"schema": {"type": "string", "format": "binary"}}}
        success["description"] = "The bytes."
    elif STREAM in handler.opt:
        success["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
        success["description"] = "Events, for as long as the connection lasts."
    elif handler.status_code != 204:  # noqa: PLR2004 - No Content
        success["content"] = {"text/plain": {"schema": {"type": "string"}}}
    responses: dict[str, Any] = {str(handler.status_code): success}
    for status, description in handler.opt.get(ALSO, {}).items():
        responses[str(status)] = success | {"description": description}
    responses |= _empty_answers(handler)
    if handler.opt.get(BINARY):
        headers = success["headers"] | {"Content-Range": {"schema": {"type": "string"}}}
        responses["206"] = success | {"description": "The range that `Range` named.", "headers": headers}
        responses["304"] = {"description": "Not changed since the ETag in If-None-Match."}
    by_status: dict[int, list[type[DomainError]]] = defaultdict(list)
    for refusal in _refusals(handler, is_guarded):
        by_status[STATUSES[refusal.code].value].append(refusal)
    for status, refusals in sorted(by_status.items()):
        responses[str(status)] = _problem_response(refusals)
    return responses


def _empty_answers(handler: HTTPRouteHandler) -> dict[str, Any]:
    answers: dict[str, Any] = {}
    if "If-None-Match" in handler.opt.get(CONDITIONAL, ()):
        answers["304"] = {"description": "Not changed since the version in If-None-Match."}
    if handler.opt.get(STREAM):
        answers["204"] = {"description": handler.opt[STREAM]}
    return answers


def _success_headers(handler: HTTPRouteHandler) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    headers: dict[str, Any] = {"X-Request-Id": text}
    if answer_of(handler) is Session or BINARY in handler.opt:
        headers["ETag"] = text
    if BINARY in handler.opt:
        headers |= {"Accept-Ranges": text, "Content-Disposition": text}
    if answer_of(handler) in {Session, Message, Attachment} and handler.status_code == 201:  # noqa: PLR2004 - Created
        headers["Location"] = text
    if CACHED in handler.opt:
        headers["X-Cache"] = {"schema": {"type": "string", "enum": ["hit", "miss", "bypass"]}}
    if "POST" in handler.http_methods:
        headers["Idempotent-Replayed"] = {"schema": {"type": "string", "enum": ["true"]}}
    return headers


def _refusals(handler: HTTPRouteHandler, is_guarded: bool) -> list[type[DomainError]]:
    refusals: list[type[DomainError]] = list(handler.opt.get(REFUSALS, ()))
    if is_guarded:
        refusals += [errors.InvalidRequest, errors.Unauthenticated, errors.InsufficientScope, errors.Unavailable]
        refusals.append(errors.RateLimited)
    if handler.parsed_data_field is not None:
        refusals.append(errors.UnsupportedPatch if "PATCH" in handler.http_methods else errors.UnsupportedMediaType)
    if "cursor" in handler.parsed_fn_signature.parameters:
        refusals.append(errors.InvalidCursor)
    if "If-Match" in handler.opt.get(CONDITIONAL, ()):
        refusals.append(errors.VersionMismatch)
    if "POST" in handler.http_methods:
        refusals += [errors.RequestInProgress, errors.IdempotencyKeyReused, errors.KeptAnswerLost]
    if handler.http_methods & {"POST", "PATCH"}:
        refusals += [errors.PayloadTooLarge, errors.RequestTimeout]
    return refusals


def _problem_response(refusals: list[type[DomainError]]) -> dict[str, Any]:
    first = refusals[0]
    status = STATUSES[first.code].value
    headers = {"X-Request-Id", *(name for refusal in refusals for name in REFUSAL_HEADERS.get(refusal, ()))}
    return {
        "headers": {name: {"schema": {"type": "string"}} for name in sorted(headers)},
        "description": " ".join(f"`{refusal.code}`: {(refusal.__doc__ or '').strip()}" for refusal in refusals),
        "content": {
            PROBLEM_JSON: {
                "schema": {"$ref": REF.format(name="Problem")},
                "example": {
                    "type": f"/problems/{first.code}",
                    "title": title_of(first.code),
                    "status": status,
                    "detail": (first.__doc__ or "").strip(),
                    "instance": "/api/v1/sessions",
                    "code": first.code,
                    "request_id": "019aabcd-1234-7abc-8def-0123456789ab",
                },
            }
        },
    }
