"""Query strings: which parameters a route knows, how their values are written, every fault named with its place."""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from litestar.connection import ASGIConnection
from litestar.exceptions import ValidationException
from litestar.handlers.base import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition

from service.domain.errors import Fault
from service.domain.near_names import OFFERS_MAX, shown, with_nearest

OPEN_PREFIX = "query_prefix"
"""Handler option: query parameters that start with this are allowed (`metadata.`)."""

QUERY_FAULTS_KEY = "holdfast.query_faults"
"""Where a route that takes a body leaves the faults of its query in the ASGI scope, to be named with the body's."""

FAULTS_MAX = 100
"""Of one query: a head of 64 KB holds 8,000 unknown names, whose faults would be 423 KB."""


class Syntax(msgspec.Struct, frozen=True):
    """How values of a type are written; Litestar alone takes `1e2` for 100, `5` for a time in 1970, `null` for None."""

    pattern: re.Pattern[str]
    message: str


SYNTAXES: dict[Any, Syntax] = {
    int: Syntax(re.compile(r"-?[0-9]{1,19}"), "Expected a whole number"),
    bool: Syntax(re.compile(r"true|false"), "Expected 'true' or 'false'"),
    datetime: Syntax(
        re.compile(
            r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
        ),
        "Expected a time with its offset (RFC 3339), such as 2026-01-31T12:00:00Z",
    ),
}


class QueryName(msgspec.Struct, frozen=True):
    """A query parameter of a route: the handler's argument, whether it may be repeated, and how it is written."""

    argument: str
    repeatable: bool
    syntax: Syntax | None


def query_faults(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> list[Fault]:
    """What is wrong with the query beyond what Litestar refuses by itself; then with that, too, so that one answer

    names every fault.
    """
    if not _is_utf8(connection.scope["query_string"]):
        return [Fault("query", "Not UTF-8")]
    known = query_parameters(handler)
    prefix: str | None = handler.opt.get(OPEN_PREFIX)
    faults: list[Fault] = []
    given: dict[str, Any] = {}
    for name, values in connection.query_params.dict().items():
        is_open_ended = prefix is not None and name.startswith(prefix) and name != prefix
        parameter = known.get(name)
        if parameter is None and not is_open_ended:
            offers = known if len(faults) < OFFERS_MAX else ()
            faults.append(Fault(f"query.{shown(name)}", with_nearest("Unknown parameter", name, offers)))
            if len(faults) >= FAULTS_MAX:
                break
        elif "\0" in name or any("\0" in value for value in values):
            faults.append(Fault(f"query.{name}", "Text may not hold the character NUL"))
        elif len(values) > 1 and not (parameter and parameter.repeatable):
            faults.append(Fault(f"query.{name}", "Given more than once"))
        elif parameter is None:
            continue
        elif parameter.syntax and not all(map(parameter.syntax.pattern.fullmatch, values)):
            faults.append(Fault(f"query.{name}", parameter.syntax.message))
        else:
            given[parameter.argument] = values if parameter.repeatable else values[0]
    return faults + _value_faults(connection, handler, given) if faults else []


def _is_utf8(query: bytes) -> bool:
    try:
        unquote_to_bytes(query).decode()
    except UnicodeDecodeError:
        return False
    return True


def _value_faults(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler, given: dict[str, Any]
) -> list[Fault]:
    try:
        handler.signature_model.parse_values_from_connection_kwargs(connection, given)
    except ValidationException as error:
        extra: Any = error.extra
        return [
            Fault(f"query.{name_of(handler, entry['key'])}", entry["message"])
            for entry in extra
            if entry.get("key") in given
        ]
    return []


def name_of(handler: BaseRouteHandler, argument: str) -> str:
    """The name by which callers know the query parameter that the handler calls `argument`."""
    return next(
        (name for name, parameter in query_parameters(handler).items() if parameter.argument == argument), argument
    )


@cache
def query_parameters(handler: BaseRouteHandler) -> dict[str, QueryName]:
    """The query parameters that a route knows, by the name that callers use."""
    return {
        field.kwarg_definition.name or argument: QueryName(
            argument,
            repeatable=field.is_non_string_sequence or any(part.is_non_string_sequence for part in field.inner_types),
            syntax=_syntax(field),
        )
        for argument, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    }


def _syntax(field: FieldDefinition) -> Syntax | None:
    for kind in _kinds(field):
        if kind in SYNTAXES:
            return SYNTAXES[kind]
        if isinstance(kind, type) and issubclass(kind, Enum):  # where None is allowed, 'null' would count as None
            names = [member.value for member in kind]
            return Syntax(re.compile("|".join(map(re.escape, names))), f"Expected one of: {', '.join(names)}")
    return None


def _kinds(field: FieldDefinition) -> list[Any]:
    return [field.annotation, *(kind for part in field.inner_types for kind in _kinds(part))]
