"""JSON Web Tokens (RFC 7519): HS256 with a shared secret, or RS256 and ES256 with the keys of a JWKS document."""

from __future__ import annotations

import asyncio
import time
from typing import Any, TypeGuard

import httpx2
import jwt
import msgspec

from service.domain.caller import SUBJECT_CHARACTERS_MAX, TENANT_CHARACTERS_MAX, Caller, CallerKind, Scope
from service.domain.errors import Unauthenticated, Unavailable
from service.log import get_logger
from service.settings import Settings

TOKEN_CHARACTERS_MAX = 8 * 1024
"""No honest token is longer, and decoding a token of 1 MB costs 85 ms of CPU (measured)."""

EXP_MAX = 2**53
"""Longer than any clock runs, and still exact as a float."""

LEEWAY_SECONDS = 30
"""Clocks of honest issuers are less far apart."""

KEYS_SECONDS_MAX = 600
"""How long a JWKS document is trusted before it is fetched again."""

REFETCH_SECONDS_MIN = 30
"""An unknown key id asks for a new document at most this often, so that made-up ids cannot hammer the issuer."""

SILENCE_SECONDS_AFTER_FAILURE = 1.0
"""How long a failing issuer is left alone, so that all who wait for it are told at once and not one by one."""

FETCH_SECONDS_MAX = 3.0
DOCUMENT_BYTES_MAX = 256 * 1024
"""Dozens of keys; anything larger is not a JWKS document."""

ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
"""Key type → the one algorithm that is taken with it. The token's own claim of an algorithm decides nothing."""

NO_KEYS = "The keys that sign tokens cannot be fetched right now; try again."

LOG = get_logger("tokens")


class TokenVerifier:
    """Turns tokens into callers, by the operator's settings."""

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.jwt_secret
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._keys = None if settings.jwt_jwks_url is None else KeySet(settings.jwt_jwks_url)

    async def caller_of(self, token: str) -> tuple[Caller, float]:
        """The user that `token` proves, and when the token ends (seconds since 1970).

        Raises:
            Unauthenticated: the token proves nothing, or its time is over.
            Unavailable: the issuer's keys cannot be fetched.
        """
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise Unauthenticated
        try:
            key, algorithm = await self._key_for(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            )
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise Unauthenticated("This token is not valid here, or its time is over.") from error
        return _caller(claims), float(claims["exp"])

    async def _key_for(self, header: dict[str, Any]) -> tuple[Any, str]:
        if header.get("alg") == "HS256":
            if self._secret is None:
                raise Unauthenticated
            return self._secret, "HS256"
        if self._keys is None:
            raise Unauthenticated
        found = await self._keys.find(header.get("kid"))
        if found.key_type not in ALGORITHMS:
            raise Unauthenticated
        return found.key, ALGORITHMS[found.key_type]


def _caller(claims: dict[str, Any]) -> Caller:
    subject, tenant, scope, ends = (claims.get(name) for name in ("sub", "tenant", "scope", "exp"))
    if isinstance(ends, bool) or not isinstance(ends, int | float) or ends > EXP_MAX:
        raise Unauthenticated("The token's exp is not a number of seconds since 1970.")
    if not _is_name(subject, SUBJECT_CHARACTERS_MAX):
        raise Unauthenticated(f"The token's sub must be a string of 1 to {SUBJECT_CHARACTERS_MAX} characters.")
    if not _is_name(tenant, TENANT_CHARACTERS_MAX):
        raise Unauthenticated(f"The token's tenant must be a string of 1 to {TENANT_CHARACTERS_MAX} characters.")
    if not isinstance(scope, str | None):
        raise Unauthenticated("The token's scope must be a string of scopes with spaces between them.")
    known = {known.value for known in Scope}
    return Caller(
        tenant_id=tenant,
        subject=subject,
        kind=CallerKind.USER,
        scopes=frozenset(Scope(name) for name in (scope or "").split() if name in known),
    )


def _is_name(value: Any, characters_max: int) -> TypeGuard[str]:
    """Whether a claim can name somebody: no NUL and no lone surrogate, which PostgreSQL cannot store."""
    if not isinstance(value, str) or not 0 < len(value) <= characters_max or "\0" in value:
        return False
    return not any("\ud800" <= character <= "\udfff" for character in value)


class KeySet:
    """The issuer's public keys: fetched once for all who wait, kept for ten minutes."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._fetched_at = self._failed_at = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: object) -> jwt.PyJWK:
        """The key called `key_id`.

        Raises:
            Unauthenticated: the issuer has no such key.
            Unavailable: the issuer does not answer, and no document is at hand.
        """
        name = key_id if isinstance(key_id, str) else None
        if self._age() > KEYS_SECONDS_MAX or (name not in self._keys and self._age() > REFETCH_SECONDS_MIN):
            await self._refresh(self._fetched_at)
        if name not in self._keys:
            raise Unauthenticated("The token is signed with a key that its issuer does not publish.")
        return self._keys[name]

    def _age(self) -> float:
        return time.monotonic() - self._fetched_at

    async def _refresh(self, seen: float) -> None:
        async with self._fetching:
            if self._fetched_at != seen:  # somebody else has fetched while this one waited
                return
            if not self._keys and time.monotonic() - self._failed_at < SILENCE_SECONDS_AFTER_FAILURE:
                raise Unavailable(NO_KEYS)
            try:
                self._keys = await self._fetch()
            except (httpx2.HTTPError, ValueError, msgspec.MsgspecError, jwt.PyJWTError) as error:
                LOG.warning("jwks.unavailable", error=type(error).__name__)
                self._failed_at = time.monotonic()
                if not self._keys:
                    raise Unavailable(NO_KEYS) from error
            self._fetched_at = time.monotonic()

    async def _fetch(self) -> dict[str | None, jwt.PyJWK]:
        async with (
            httpx2.AsyncClient(timeout=FETCH_SECONDS_MAX, trust_env=False) as client,
            client.stream("GET", self._url) as response,
        ):
            response.raise_for_status()
            document = b""
            async for chunk in response.aiter_bytes():
                document += chunk
                if len(document) > DOCUMENT_BYTES_MAX:
                    raise ValueError("the JWKS document is too large")
        published = msgspec.json.decode(document, type=dict[str, Any])
        return {key.key_id: key for key in jwt.PyJWKSet.from_dict(published).keys}
