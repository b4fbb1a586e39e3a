"""The OpenAPI 3.1 document, read from the routes themselves: nothing is described twice.

Litestar's own generator drops `forbid_unknown_fields`, the problem documents and the headers, and stumbles over
Structs with list defaults; msgspec's JSON Schema of the very types that decode the bodies cannot disagree with them.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, get_args

import msgspec
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg, QueryParameter
from litestar.routes import HTTPRoute
from litestar.typing import FieldDefinition

from service import __version__
from service.domain import errors
from service.domain.attachment import Attachment
from service.domain.errors import DomainError, Fault
from service.domain.message import Message
from service.domain.session import Session
from service.handlers.authentication import scopes_of
from service.handlers.examples import EXAMPLES
from service.handlers.problems import PROBLEM_JSON, STATUSES, Problem, title_of

HIDDEN = "undocumented"
"""Handler option: a page for people, not a part of the interface."""

REFUSALS = "refusals"
"""Handler option: the errors that this route alone can answer with."""

ALSO = "also"
"""Handler option: further statuses with the same kind of answer, and what each of them means."""

UPLOAD = "upload"
"""Handler option: the body is a file, as it is or in a form."""

BINARY = "binary"
"""Handler option: the media type of the bytes that the route hands out."""

STREAM = "stream"
"""Handler option: the route streams events; what 204 means here, None where it cannot be the answer."""

CONDITIONAL = "conditional"
"""Handler option: which of the conditional headers the route reads."""

CACHED = "cached"
"""Handler option: the route may be answered from a copy, and says so."""

REF = "#/components/schemas/{name}"
TIME = {"type": "string", "format": "date-time"}
NO_NUL = "^[^\\u0000]*$"
"""PostgreSQL cannot store NUL; the text of every request is checked for it."""

DESCRIPTION = """The place where AI agents keep their conversations.

Send an API key or a JWT as `Authorization: Bearer …`. Every POST takes an `Idempotency-Key`: the same key and body
within 24 hours give the first answer again, with `Idempotent-Replayed: true`, and have no second effect.
Every error is an `application/problem+json` (RFC 9457) with a stable `code` that `/problems/{code}` explains.
"""

REQUEST_ID = {
    "name": "X-Request-Id",
    "in": "header",
    "description": "Your own id for this request: on the answer, in the log, on the events that it causes. "
    "1 to 128 letters, digits and `._:/+=@-`; anything else is replaced by an id of ours.",
    "schema": {"type": "string"},
}
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "1 to 255 visible ASCII characters; makes it safe to send this request again.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
REFUSAL_HEADERS: dict[type[DomainError], tuple[str, ...]] = {
    errors.Unauthenticated: ("WWW-Authenticate",),
    errors.Unavailable: ("Retry-After",),
    errors.TooManyStreams: ("Retry-After",),
    errors.RequestInProgress: ("Retry-After",),
}
LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The `id` of the last event that you have seen; all that followed comes first.",
    "schema": {"type": "string", "maxLength": 512, "pattern": "^[0-9A-Za-z_-]*$"},
}
CONDITIONALS = {
    "If-Match": "Only if the session still has this version (its ETag); else 412 `version_mismatch`.",
    "If-None-Match": "Only if the session has another version than this ETag; else 304.",
}
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
TAG_PATTERN = r'^(\*|(W/)?"[!#-~]*"(, (W/)?"[!#-~]*")*)$'
OF_DOWNLOADS = [
    {
        "name": "If-None-Match",
        "in": "header",
        "description": "Only if the bytes are others than those of this ETag; else 304.",
        "schema": {"type": "string", "maxLength": 200, "pattern": TAG_PATTERN},
    },
    {
        "name": "Range",
        "in": "header",
        "description": "One range: `bytes=0-99`, `bytes=100-`, or `bytes=-100` for the last hundred. "
        "Whatever else stands here is answered with the whole file (RFC 9110, section 14.2).",
        "schema": {"type": "string"},
    },
    {
        "name": "If-Range",
        "in": "header",
        "description": "The range only if the bytes are still those of this ETag; else all of them.",
        "schema": {"type": "string"},
    },
]
CONTENT_DISPOSITION = {
    "name": "Content-Disposition",
    "in": "header",
    "description": "The name of a file that is the whole body (RFC 6266); other characters percent-encoded, as UTF-8.",
    "schema": {"type": "string", "pattern": "^attachment; filename\\*=UTF-8''[A-Za-z0-9._-]{1,200}$"},
}
TAGS = {"sessions", "messages", "tool-calls", "attachments", "events", "webhooks", "api-keys"}


def openapi_document(app: Litestar) -> dict[str, Any]:
    """The whole document, as plain objects."""
    operations = list(_operations(app))
    schemas = _Schemas([kind for _, _, handler in operations for kind in _kinds(handler)])
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
        for method, (handler, _) in route.route_handler_map.items():
            if method != "OPTIONS" and not handler.opt.get(HIDDEN):
                yield path, method, handler


def _kinds(handler: HTTPRouteHandler) -> list[Any]:
    body = handler.parsed_data_field
    kinds = [] if body is None else [body.annotation]
    answer = _answer(handler)
    return kinds if answer is None else [*kinds, answer]


def _answer(handler: HTTPRouteHandler) -> Any:
    """What the handler answers with: the `T` of its `Response[T]`; None: no JSON body."""
    (kind,) = get_args(handler.parsed_fn_signature.return_type.annotation)
    return None if kind in {None, type(None), bytes} else kind


class _Schemas:
    """Every type's JSON Schema, as msgspec makes it from the type that decodes it."""

    def __init__(self, kinds: list[Any]) -> None:
        unique = list({repr(kind): kind for kind in [*kinds, Problem, Fault]}.values())
        references, self._components = msgspec.json.schema_components(unique, ref_template=REF)
        self._references = {repr(kind): reference for kind, reference in zip(unique, references, strict=True)}

    def reference(self, kind: Any) -> dict[str, Any]:
        return self._references[repr(kind)]

    def components(self) -> dict[str, Any]:
        components = {name: _without_nul(_with_times(schema)) for name, schema in self._components.items()}
        content = components["MessageDraft"]["properties"]["content"]
        message = components["Message"]["properties"]
        message["content"] = {"anyOf": [*content["anyOf"], {"type": "null"}], "description": "null once deleted."}
        message["usage"] = {"anyOf": [{"$ref": REF.format(name="Usage")}, {"type": "null"}]}
        for name in ("Message", "Session", "Event", "Attachment"):
            for field in ("metadata", "data", "properties"):
                if field in components[name]["properties"]:
                    components[name]["properties"][field] = {"type": "object"}
        problem = components["Problem"]
        problem["properties"]["errors"] = {"type": "array", "items": {"$ref": REF.format(name="Fault")}}
        problem["properties"]["code"] = {"type": "string", "enum": sorted(STATUSES)}
        for name, example in EXAMPLES.items():
            components[name]["examples"] = [example]
        return components


def _with_times(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema` with the format of its times (`…_at`), which msgspec leaves out."""
    for name, field in schema.get("properties", {}).items():
        if name.endswith("_at"):
            schema["properties"][name] = {"anyOf": [TIME, {"type": "null"}]} if "anyOf" in field else TIME
    return schema


def _without_nul(schema: Any) -> Any:
    """`schema` with what the request's text is checked for, beside what its types say."""
    if isinstance(schema, list):
        return [_without_nul(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    checked = {key: value if key in {"default", "enum"} else _without_nul(value) for key, value in schema.items()}
    if checked.get("type") == "string" and not {"enum", "format", "pattern"} & checked.keys():
        checked["pattern"] = NO_NUL
    return checked


def _operation(path: str, handler: HTTPRouteHandler, schemas: _Schemas) -> dict[str, Any]:
    text = inspect.cleandoc(handler.fn.__doc__ or "")
    summary, _, rest = text.partition("\n\n")
    scopes = scopes_of(handler)
    named = " or ".join(f"`{scope}`" for scope in scopes)
    body = handler.parsed_data_field
    operation: dict[str, Any] = {
        "operationId": handler.operation_id,
        "summary": " ".join(summary.split()),
        "description": "\n\n".join(filter(None, [rest, f"Scope: {named}." if scopes else ""])),
        "tags": [_tag(path)],
        "parameters": _parameters(handler),
        "responses": _responses(handler, bool(scopes), schemas),
    }
    if scopes:
        operation["security"] = [{"bearer": [scope.value]} for scope in scopes]  # any one of them
    if body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas.reference(body.annotation)}},
        }
    if handler.opt.get(UPLOAD):
        operation["requestBody"] = UPLOAD_BODY
    return operation


def _tag(path: str) -> str:
    names = [part for part in path.split("/") if part and not part.startswith("{")]
    known = [name for name in names if name in TAGS]
    return known[-1] if known else "operations"


def _parameters(handler: HTTPRouteHandler) -> list[dict[str, Any]]:
    parameters = [_parameter(name, field) for name, field in _parameter_fields(handler)]
    if handler.opt.get("query_prefix"):
        parameters.append(
            {
                "name": "metadata",
                "in": "query",
                "style": "form",
                "explode": True,
                "description": "Any `metadata.<key>=<value>`, up to ten.",
                "schema": {
                    "type": "object",
                    "maxProperties": 10,
                    "patternProperties": {r"^metadata\.[A-Za-z0-9_]+$": {"type": "string", "pattern": NO_NUL}},
                    "additionalProperties": False,
                },
            }
        )
    if "POST" in handler.http_methods:
        parameters.append(IDEMPOTENCY_KEY)
    parameters += [
        {
            "name": name,
            "in": "header",
            "description": CONDITIONALS[name],
            "schema": {"type": "string", "maxLength": 200, "pattern": TAG_PATTERN},
        }
        for name in handler.opt.get(CONDITIONAL, ())
    ]
    if STREAM in handler.opt:
        parameters.append(LAST_EVENT_ID)
    if BINARY in handler.opt:
        parameters += OF_DOWNLOADS if "GET" in handler.http_methods else OF_DOWNLOADS[:1]
    if UPLOAD in handler.opt:
        parameters.append(CONTENT_DISPOSITION)
    return [*parameters, REQUEST_ID]


def _parameter_fields(handler: HTTPRouteHandler) -> Iterator[tuple[str, FieldDefinition]]:
    for argument, field in handler.parsed_fn_signature.parameters.items():
        definition = field.kwarg_definition
        if isinstance(definition, ParameterKwarg):
            yield definition.name or argument, field


def _parameter(name: str, field: FieldDefinition) -> dict[str, Any]:
    definition = field.kwarg_definition
    if not isinstance(definition, QueryParameter):
        return {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    schemas, components = msgspec.json.schema_components([_annotated(kind, definition) for kind in _choices(field)])
    schema = _without_nul(_inlined(schemas[0], components))
    parameter = {"name": name, "in": "query", "schema": schema}
    if definition.description:
        parameter["description"] = definition.description
    if field.has_default and field.default is not None:
        parameter["schema"] = {**schema, "default": msgspec.to_builtins(field.default)}
    return parameter


def _choices(field: FieldDefinition) -> list[Any]:
    """The one type of a parameter, without its None: absent is not a value."""
    return [inner.annotation for inner in field.inner_types if not inner.is_none_type] if field.is_optional else [
        field.annotation
    ]  # fmt: skip


def _annotated(kind: Any, definition: QueryParameter) -> Any:
    """The type with its bounds, as msgspec understands them."""
    if kind is datetime:
        return Annotated[kind, msgspec.Meta(tz=True)]
    bounds = {"ge": definition.ge, "le": definition.le, "max_length": definition.max_length}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return Annotated[kind, msgspec.Meta(**given)] if given else kind  # type: ignore[call-overload]


def _inlined(schema: Any, components: dict[str, Any]) -> Any:
    if isinstance(schema, dict) and "$ref" in schema:
        return components[schema["$ref"].rpartition("/")[2]]
    if isinstance(schema, dict):
        return {key: _inlined(value, components) for key, value in schema.items()}
    return schema


def _responses(handler: HTTPRouteHandler, is_guarded: bool, schemas: _Schemas) -> dict[str, Any]:
    answer = _answer(handler)
    success: dict[str, Any] = {"description": "Done.", "headers": _success_headers(handler)}
    if answer is not None:
        success["content"] = {"application/json": {"schema": schemas.reference(answer)}}
    elif handler.opt.get(BINARY):
        bytes_ = {} if "HEAD" in handler.http_methods else {"type": "string", "format": "binary"}
        success["content"] = {handler.opt[BINARY]: {"schema": bytes_}}
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
    if handler.opt.get(BINARY) and "GET" in handler.http_methods:
        headers = success["headers"] | {"Content-Range": {"schema": {"type": "string"}}}
        responses["206"] = success | {"description": "The range that `Range` named.", "headers": headers}
    if handler.opt.get(BINARY):
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
    if _answer(handler) is Session or BINARY in handler.opt:
        headers["ETag"] = text
    if BINARY in handler.opt:
        headers |= {"Accept-Ranges": text, "Content-Disposition": text}
    if _answer(handler) in {Session, Message, Attachment} and handler.status_code == 201:  # noqa: PLR2004 - Created
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
    if handler.parsed_data_field is not None:
        refusals.append(errors.UnsupportedMediaType)
    if "cursor" in handler.parsed_fn_signature.parameters:
        refusals.append(errors.InvalidCursor)
    if "If-Match" in handler.opt.get(CONDITIONAL, ()):
        refusals.append(errors.VersionMismatch)
    if "POST" in handler.http_methods:
        refusals += [errors.RequestInProgress, errors.IdempotencyKeyReused]
    if handler.http_methods & {"POST", "PATCH"}:
        refusals.append(errors.PayloadTooLarge)
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
