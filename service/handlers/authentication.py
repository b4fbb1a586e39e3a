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
from service.domain.errors import Denial, InvalidRequest, Unauthenticated, Unavailable
from service.domain.ticket import Credential
from service.handlers.key_uses import KeyUses
from service.handlers.look_ups import LookUps
from service.handlers.queries import QUERY_FAULTS_KEY, query_faults
from service.handlers.rate_limits import address_of, counted
from service.handlers.request_lines import CREDENTIAL_KEY
from service.handlers.tokens import LEEWAY_SECONDS, TokenVerifier
from service.settings import Settings
from service.store import api_keys
from service.store.engine import Database

TRUSTED_SECONDS = 1.0
"""How long a process trusts credentials it has just verified: a revoked key stops within one second everywhere,

and an agent that sends a hundred requests a second costs one look-up a second.
"""

TRUSTED_CREDENTIALS_MAX = 10_000
"""Three megabytes of memory; when one more comes, the one that was verified longest ago is forgotten."""

UNKNOWN = "This API key is unknown, expired or revoked."


class _Trusted(msgspec.Struct, frozen=True):
    credential: Credential
    until: float


class Authenticator:
    """Verifies credentials; remembers the verified ones for a second."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._database = database
        self._tokens = TokenVerifier(settings)
        self._trusted: dict[bytes, _Trusted] = {}
        """What was verified last, by its digest; also once its second is over: what was good is worth a look."""
        self.look_ups = LookUps(settings.bad_credentials)
        """Of what this process has never seen to be good."""
        self.uses = KeyUses(database)

    async def credential_of(self, authorization: str | None, address: str | None) -> Credential:
        """The caller that an Authorization header from `address` proves, and by what.

        Raises:
            Unauthenticated: there is none, or it is not valid; NotLookedUp: too many such have come from there.
            Unavailable: it cannot be verified right now.
        """
        if authorization is None:
            raise Unauthenticated(denial=Denial.MISSING)
        scheme, _, credentials = authorization.partition(" ")
        credentials = credentials.strip()
        if scheme.lower() != "bearer" or not credentials:
            raise Unauthenticated(denial=Denial.MALFORMED)
        fingerprint = hashlib.sha256(credentials.encode("utf-8", "surrogateescape")).digest()
        now = time.monotonic()
        trusted = self._trusted.get(fingerprint)
        if trusted is not None and trusted.until > now:
            return trusted.credential
        if credentials.startswith(PREFIX):
            credential = await self._look_up(digest(credentials), address, was_good=trusted is not None)
            seconds = TRUSTED_SECONDS
        else:
            credential = await self._tokens.credential_of(credentials)
            seconds = min(TRUSTED_SECONDS, max(0.0, (credential.ends or 0.0) - time.time()))
        self._trust(fingerprint, _Trusted(credential, now + seconds))
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

    def start(self) -> None:
        """Begin to keep when keys are used."""
        self.uses.start()

    async def stop(self) -> None:
        """Fetch no more keys of tokens, and keep the last uses of API keys."""
        await self._tokens.stop()
        await self.uses.stop()

    async def _look_up(self, key_digest: bytes, address: str | None, *, was_good: bool) -> Credential:
        async def look() -> Credential | None:
            async with self._database.connect() as tx:
                return await api_keys.find(tx, key_digest)

        found = await (look() if was_good else self.look_ups.find(key_digest, address, look))
        if found is None:
            self._trusted.pop(key_digest, None)
            raise Unauthenticated(UNKNOWN, denial=Denial.KEY_UNKNOWN)
        self.uses.note(found)
        return found

    def _trust(self, fingerprint: bytes, trusted: _Trusted) -> None:
        self._trusted.pop(fingerprint, None)
        if len(self._trusted) >= TRUSTED_CREDENTIALS_MAX:
            del self._trusted[next(iter(self._trusted))]
        self._trusted[fingerprint] = trusted


def requires(*scopes: Scope) -> Callable[[Request[Any, Any, Any]], Awaitable[None]]:
    """What a route does before anything else: valid credentials, with one of `scopes`, and no unknown query parameter.

    A `before_request` hook and not a Litestar guard, because a guard is handed a copy of the route's handler, and that
    copy costs each request 6 % of its CPU (measured).
    """

    async def admit(request: Request[Any, Any, Any]) -> None:
        authenticator: Authenticator = request.app.state.parts.authenticator
        proof = authenticator.credential_of(request.headers.get("authorization"), address_of(request))
        let_in(request, await counted(request, proof), scopes)

    admit.scopes = scopes  # type: ignore[attr-defined]  # read by `scopes_of`
    return admit


def let_in(request: Request[Any, Any, Any], credential: Credential, scopes: tuple[Scope, ...]) -> None:
    """Let the caller pass, unless it lacks all of `scopes` or its query has a fault.

    Raises:
        InsufficientScope, InvalidRequest.
    """
    credential.caller.require_any(scopes)
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
