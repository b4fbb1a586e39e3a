"""Who calls: API keys and tokens become callers, and every route names the scope that it needs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler

from service.domain.api_key import PREFIX, digest
from service.domain.caller import Caller, Scope
from service.domain.errors import InvalidRequest, Unauthenticated, Unavailable
from service.domain.ticket import Credential
from service.handlers.queries import QUERY_FAULTS_KEY, query_faults
from service.handlers.rate_limits import counted
from service.handlers.tokens import LEEWAY_SECONDS, TokenVerifier
from service.settings import Settings
from service.store import api_keys
from service.store.engine import Database

TRUSTED_SECONDS = 1.0
"""How long a process trusts credentials it has just verified: a revoked key stops within one second everywhere,

and an agent that sends a hundred requests a second costs one look-up a second.
"""

TRUSTED_CREDENTIALS_MAX = 10_000
"""Two megabytes of memory; when it is full, all are verified anew."""

CREDENTIAL_KEY = "holdfast.credential"
"""Where the guard leaves the caller, and what proved it, in the ASGI scope."""


class _Trusted(msgspec.Struct, frozen=True):
    credential: Credential
    until: float


class Authenticator:
    """Verifies credentials; remembers the verified ones for a second."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._tokens = TokenVerifier(settings)
        self._trusted: dict[bytes, _Trusted] = {}

    async def credential_of(self, authorization: str | None) -> Credential:
        """The caller that an Authorization header proves, and by what.

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
            return trusted.credential
        credential, seconds = await self._verify(credentials)
        if len(self._trusted) >= TRUSTED_CREDENTIALS_MAX:
            self._trusted.clear()
        self._trusted[fingerprint] = _Trusted(credential, now + seconds)
        return credential

    async def still_holds(self, credential: Credential) -> bool:
        """Whether what once proved a caller still does: the key lives, or the token has not ended.

        While PostgreSQL is away it does: there is nothing that could be read with it.
        """
        if credential.ends is not None and time.time() > credential.ends + LEEWAY_SECONDS:
            return False
        if credential.key_digest is None:
            return True
        trusted = self._trusted.get(credential.key_digest)  # an API key's fingerprint here is its digest there
        if trusted is not None and trusted.until > time.monotonic():
            return True
        try:
            async with self._database.connect() as tx:
                return await api_keys.find(tx, credential.key_digest) is not None
        except Unavailable:
            return True

    def distrust(self, key_digest: bytes) -> None:
        """Forget a key at once: it was revoked through this process."""
        self._trusted.pop(key_digest, None)

    async def _verify(self, credentials: str) -> tuple[Credential, float]:
        if not credentials.startswith(PREFIX):
            caller, ends = await self._tokens.caller_of(credentials)
            return Credential(caller, ends=ends), min(TRUSTED_SECONDS, max(0.0, ends - time.time()))
        key_digest = digest(credentials)
        async with self._database.connect() as tx:
            found = await api_keys.find(tx, key_digest)
        if found is None:
            raise Unauthenticated("This API key is unknown, expired or revoked.")
        return Credential(found, key_digest), TRUSTED_SECONDS


def requires(*scopes: Scope) -> Callable[[Request[Any, Any, Any]], Awaitable[None]]:
    """What a route does before anything else: valid credentials, with one of `scopes`, and no unknown query parameter.

    A `before_request` hook and not a Litestar guard, because a guard is handed a copy of the route's handler, and that
    copy costs each request 6 % of its CPU (measured).
    """

    async def admit(request: Request[Any, Any, Any]) -> None:
        authenticator: Authenticator = request.app.state.parts.authenticator
        proof = authenticator.credential_of(request.headers.get("authorization"))
        let_in(request, await counted(request, proof), scopes)

    admit.scopes = scopes  # type: ignore[attr-defined]  # read by `scopes_of`
    return admit


def let_in(request: Request[Any, Any, Any], credential: Credential, scopes: tuple[Scope, ...]) -> None:
    """Leave the caller in the request, unless it lacks all of `scopes` or its query has a fault.

    Raises:
        InsufficientScope, InvalidRequest.
    """
    credential.caller.require_any(scopes)
    request.scope[CREDENTIAL_KEY] = credential  # type: ignore[literal-required]  # ASGI lets apps add keys
    if request.scope["query_string"]:
        _check_query(request, request.route_handler)


def scopes_of(handler: HTTPRouteHandler) -> tuple[Scope, ...]:
    """The scopes of which a route requires one; empty: it is open to everybody."""
    return getattr(handler.before_request, "scopes", ())


def caller_of(request: ASGIConnection[Any, Any, Any, Any]) -> Caller:
    """The caller that the guard let in."""
    return credential_of(request).caller


def credential_of(request: ASGIConnection[Any, Any, Any, Any]) -> Credential:
    """What proved the caller that was let in."""
    credential: Credential = request.scope[CREDENTIAL_KEY]  # type: ignore[literal-required]
    return credential


def _check_query(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    faults = query_faults(connection, handler)
    if faults and handler.parsed_data_field is None:
        raise InvalidRequest(faults)
    if faults:  # the body's faults are named together with these
        connection.scope[QUERY_FAULTS_KEY] = faults  # type: ignore[literal-required]  # ASGI lets apps add keys
