"""What a request may carry beside its body: path, query and headers, read from the handler's signature."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import ParameterKwarg, QueryParameter
from litestar.typing import FieldDefinition

from service.handlers.openapi import BINARY, CONDITIONAL, STREAM, UPLOAD
from service.handlers.openapi.schemas import NO_NUL, without_nul

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


def parameters_of(handler: HTTPRouteHandler) -> list[dict[str, Any]]:
    """Path, query and headers of a route, in this order."""
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
        parameters += OF_DOWNLOADS
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
    schema = without_nul(_inlined(schemas[0], components))
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
