"""The OpenAPI 3.1 document, read from the routes themselves: nothing is described twice.

Litestar's own generator drops `forbid_unknown_fields`, the problem documents and the headers, and stumbles over
Structs with list defaults; msgspec's JSON Schema of the very types that decode the bodies cannot disagree with them.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from service import __version__
from service.domain.caller import Scope
from service.handlers.authentication import scopes_of
from service.handlers.bodies import taken_by
from service.handlers.openapi import HIDDEN, SCOPES, UPLOAD
from service.handlers.openapi.answers import answer_of, responses_of
from service.handlers.openapi.parameters import parameters_of
from service.handlers.openapi.schemas import Schemas

DESCRIPTION = """The place where AI agents keep their conversations.

Send an API key or a JWT as `Authorization: Bearer …`. Every POST takes an `Idempotency-Key`: the same key and body
within 24 hours give the first answer again, with `Idempotent-Replayed: true`, and have no second effect.
Every address that takes GET takes HEAD: the same status and headers, without the body. It waits for nothing, and of a
stream it takes no place. Ids may come in upper case (RFC 9562, section 4); they are answered in lower case.
A path has one form: no empty segment, no slash at the end, no dot segment, nothing encoded that need not be (letters,
digits, `-`, `.`, `_`, `~`), no encoded slash; hexadecimal digits in either case. Every other form is a 404.
An address that sends more than 60 bad credentials a minute gets 429 `rate_limited` for them; so does a caller, for all
that it asks, while it leaves 32 MiB of answers untaken.
Every error is an `application/problem+json` (RFC 9457) with a stable `code` that `/problems/{code}` explains.
"""

UPLOAD_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "contentMediaType": "application/octet-stream"},
                    "metadata": {"type": "object", "description": "Any JSON object of at most 16 KiB."},
                },
                "additionalProperties": False,
            },
            "encoding": {"metadata": {"contentType": "application/json"}},
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
    },
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""In the order in which a reader looks for them; the framework keeps them in none."""

TAGS = {"sessions", "messages", "tool-calls", "attachments", "events", "webhooks", "api-keys"}


def openapi_document(app: Litestar) -> dict[str, Any]:
    """The whole document, as plain objects."""
    operations = list(_operations(app))
    schemas = Schemas([kind for _, _, handler in operations for kind in _kinds(handler)])
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for path, method, handler in operations:
        paths[path][method.lower()] = _operation(path, handler, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Holdfast",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": dict(paths),
        "components": {
            "schemas": schemas.components(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key (`hf_…`) or a JWT."}
            },
        },
    }


def _operations(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    for route in app.routes:
        if not isinstance(route, HTTPRoute):
            continue
        path = route.path_format
        handlers = {str(method): handler for method, (handler, _) in route.route_handler_map.items()}
        for method in METHODS:
            if method in handlers and not handlers[method].opt.get(HIDDEN):
                yield path, method, handlers[method]


def _kinds(handler: HTTPRouteHandler) -> list[Any]:
    body = handler.parsed_data_field
    kinds = [] if body is None else [body.annotation]
    answer = answer_of(handler)
    return kinds if answer is None else [*kinds, answer]


def _operation(path: str, handler: HTTPRouteHandler, schemas: Schemas) -> dict[str, Any]:
    text = inspect.cleandoc(handler.fn.__doc__ or "")
    summary, _, rest = text.partition("\n\n")
    scopes = scopes_of(handler)
    body = handler.parsed_data_field
    operation: dict[str, Any] = {
        "operationId": handler.operation_id,
        "summary": " ".join(summary.split()),
        "description": "\n\n".join(filter(None, [rest, _in_words(handler, scopes)])),
        "tags": [_tag(path)],
        "parameters": parameters_of(handler),
        "responses": responses_of(handler, bool(scopes), schemas),
    }
    if scopes:
        operation["security"] = [{"bearer": [scope.value]} for scope in scopes]  # any one of them
    if SCOPES in handler.opt:
        operation["x-scopes"] = {scope.value: purpose for scope, purpose in handler.opt[SCOPES].items()}
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {
                media_type: {"schema": schemas.reference(body.annotation)}
                for method in handler.http_methods
                for media_type in taken_by(method)
            },
        }
    if handler.opt.get(UPLOAD):
        operation["requestBody"] = UPLOAD_BODY
    return operation


def _in_words(handler: HTTPRouteHandler, scopes: tuple[Scope, ...]) -> str:
    """What the route says of its scopes: the one that it needs, or which one for what."""
    purposes: dict[Scope, str] = handler.opt.get(SCOPES, {})
    if purposes:
        return f"Scopes: {'; '.join(f'`{scope}` {purpose}' for scope, purpose in purposes.items())}."
    return f"Scope: {' or '.join(f'`{scope}`' for scope in scopes)}." if scopes else ""


def _tag(path: str) -> str:
    names = [part for part in path.split("/") if part and not part.startswith("{")]
    known = [name for name in names if name in TAGS]
    return known[-1] if known else "operations"
