"""Who calls: API keys and tokens become callers, and every route names the scope that it needs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import msgspec
from litestar.connection import ASGIConnection
from litestar.exceptions import ValidationException
from litestar.handlers.base import BaseRouteHandler
from litestar.params import QueryParameter

from service.domain.api_key import PREFIX, digest
from service.domain.caller import Caller, Scope
from service.domain.errors import Fault, InvalidRequest, Unauthenticated
from service.handlers.tokens import TokenVerifier
from service.settings import Settings
from service.store import api_keys
from service.store.engine import Database

TRUSTED_SECONDS = 1.0
"""How long a process trusts credentials it has just verified: a revoked key stops within one second everywhere,

and an agent that sends a hundred requests a second costs one look-up a second.
"""

TRUSTED_CREDENTIALS_MAX = 10_000
"""Two megabytes of memory; when it is full, all are verified anew."""

CALLER_KEY = "holdfast.caller"
"""Where the guard leaves the caller in the ASGI scope."""

OPEN_PREFIX = "query_prefix"
"""Handler option: query parameters that start with this are allowed (`metadata.`)."""


class _Trusted(msgspec.Struct, frozen=True):
    caller: Caller
    until: float


class Authenticator:
    """Verifies credentials; remembers the verified ones for a second."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._tokens = TokenVerifier(settings)
        self._trusted: dict[bytes, _Trusted] = {}

    async def caller_of(self, authorization: str | None) -> Caller:
        """The caller that an Authorization header proves.

        Raises:
            Unauthenticated: there is none, or it is not valid.
            Unavailable: it cannot be verified right now.
        """
        scheme, _, credentials = (authorization or "").partition(" ")
        credentials = credentials.strip()
        if scheme.lower() != "bearer" or not credentials:
            raise Unauthenticated
        fingerprint = hashlib.sha256(credentials.encode("utf-8", "surrogateescape")).digest()
        now = time.monotonic()
        trusted = self._trusted.get(fingerprint)
        if trusted is not None and trusted.until > now:
            return trusted.caller
        caller, seconds = await self._verify(credentials)
        if len(self._trusted) >= TRUSTED_CREDENTIALS_MAX:
            self._trusted.clear()
        self._trusted[fingerprint] = _Trusted(caller, now + seconds)
        return caller

    def distrust(self, key_digest: bytes) -> None:
        """Forget a key at once: it was revoked through this process."""
        self._trusted.pop(key_digest, None)

    async def _verify(self, credentials: str) -> tuple[Caller, float]:
        if not credentials.startswith(PREFIX):
            caller, ends = await self._tokens.caller_of(credentials)
            return caller, min(TRUSTED_SECONDS, max(0.0, ends - time.time()))
        async with self._database.connect() as tx:
            found = await api_keys.find(tx, digest(credentials))
        if found is None:
            raise Unauthenticated("This API key is unknown, expired or revoked.")
        return found, TRUSTED_SECONDS


def requires(scope: Scope) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]:
    """A guard: valid credentials, with `scope`, and no query parameter that the route does not know."""

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        authenticator: Authenticator = connection.app.state.parts.authenticator
        caller = await authenticator.caller_of(connection.headers.get("authorization"))
        caller.require(scope)
        connection.scope[CALLER_KEY] = caller  # type: ignore[literal-required]  # ASGI lets apps add keys
        if connection.scope["query_string"]:
            _refuse_unknown_query(connection, handler)

    guard.scope = scope  # type: ignore[attr-defined]  # read by the OpenAPI document
    return guard


def caller_of(request: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """The caller that the guard let in."""
    caller: Caller = request.scope[CALLER_KEY]  # type: ignore[literal-required]
    return caller


def _refuse_unknown_query(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    known = query_parameters(handler)
    prefix: str | None = handler.opt.get(OPEN_PREFIX)
    faults: list[Fault] = []
    given: dict[str, Any] = {}
    for name, values in connection.query_params.dict().items():
        open_ended = prefix is not None and name.startswith(prefix) and name != prefix
        if name not in known and not open_ended:
            faults.append(Fault(f"query.{name}", "Unknown parameter"))
        elif any("\0" in value for value in values):
            faults.append(Fault(f"query.{name}", "Text may not hold the character NUL"))
        elif len(values) > 1 and not (name in known and known[name].repeatable):
            faults.append(Fault(f"query.{name}", "Given more than once"))
        elif name in known:
            given[known[name].argument] = values if known[name].repeatable else values[0]
    if faults:
        raise InvalidRequest(faults + _value_faults(connection, handler, given))


def _value_faults(
    connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler, given: dict[str, Any]
) -> list[Fault]:
    """What else is wrong with the query, so that one answer names every fault."""
    try:
        handler.signature_model.parse_values_from_connection_kwargs(connection, given)
    except ValidationException as error:
        extra: Any = error.extra
        names = {argument: name for name, (argument, _) in _names(handler).items()}
        return [
            Fault(f"query.{names[entry['key']]}", entry["message"])
            for entry in extra
            if entry.get("key") in names and entry["key"] in given
        ]
    return []


class QueryName(msgspec.Struct, frozen=True):
    """A query parameter of a route: the handler's argument, and whether it may be repeated."""

    argument: str
    repeatable: bool


def query_parameters(handler: BaseRouteHandler) -> dict[str, QueryName]:
    """The query parameters that a route knows, by the name that callers use."""
    return {name: QueryName(argument, repeatable) for name, (argument, repeatable) in _names(handler).items()}


@cache
def _names(handler: BaseRouteHandler) -> dict[str, tuple[str, bool]]:
    return {
        field.kwarg_definition.name or argument: (
            argument,
            field.is_non_string_sequence or any(part.is_non_string_sequence for part in field.inner_types),
        )
        for argument, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    }
