"""JSON Web Tokens (RFC 7519): HS256 with a shared secret, or RS256 and ES256 with the keys of a JWKS document."""

from __future__ import annotations

from typing import Any, TypeGuard

import jwt

from service.domain.caller import SUBJECT_CHARACTERS_MAX, TENANT_CHARACTERS_MAX, Caller, CallerKind, Scope
from service.domain.errors import Denial, Unauthenticated
from service.domain.ticket import Credential
from service.handlers.issuer_keys import KeySet
from service.settings import Settings

TOKEN_CHARACTERS_MAX = 8 * 1024
"""No honest token is longer, and decoding a token of 1 MB costs 85 ms of CPU (measured)."""

EXP_MAX = 2**53
"""Longer than any clock runs, and still exact as a float."""

LEEWAY_SECONDS = 30
"""Clocks of honest issuers are less far apart."""

NOT_VALID = "This token is not valid here, or its time is over."

ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
"""Key type → the one algorithm that is taken with it. The token's own claim of an algorithm decides nothing."""


class TokenVerifier:
    """Turns tokens into callers, by the operator's settings."""

    def __init__(self, settings: Settings) -> None:
        self._secret = settings.jwt_secret
        self._issuer = settings.jwt_issuer
        self._audience = settings.jwt_audience
        self._keys = None if settings.jwt_jwks_url is None else KeySet(settings.jwt_jwks_url)

    async def credential_of(self, token: str) -> Credential:
        """What `token` proves: its user, until it ends.

        Raises:
            Unauthenticated: the token proves nothing, or its time is over.
            IssuerAway: the issuer's keys cannot be fetched.
        """
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise Unauthenticated(denial=Denial.JWT_INVALID)
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
            raise Unauthenticated(NOT_VALID, denial=Denial.JWT_INVALID) from error
        caller, issuer = _caller(claims), claims.get("iss")
        return Credential(caller, ends=float(claims["exp"]), issuer=issuer if isinstance(issuer, str) else None)

    async def _key_for(self, header: dict[str, Any]) -> tuple[Any, str]:
        if header.get("alg") == "HS256":
            if self._secret is None:
                raise Unauthenticated(denial=Denial.JWT_INVALID)
            return self._secret, "HS256"
        if self._keys is None or header.get("alg") not in ALGORITHMS.values():
            raise Unauthenticated(denial=Denial.JWT_INVALID)
        found = await self._keys.find(header.get("kid"))
        return found.key, ALGORITHMS[found.key_type or ""]

    async def stop(self) -> None:
        """Fetch no more keys."""
        if self._keys is not None:
            await self._keys.stop()


def _caller(claims: dict[str, Any]) -> Caller:
    subject, tenant, scope, ends = (claims.get(name) for name in ("sub", "tenant", "scope", "exp"))
    if isinstance(ends, bool) or not isinstance(ends, int | float) or ends > EXP_MAX:
        raise Unauthenticated("The token's exp is not a number of seconds since 1970.", denial=Denial.JWT_CLAIMS)
    if not _is_name(subject, SUBJECT_CHARACTERS_MAX):
        raise Unauthenticated(
            f"The token's sub must be a string of 1 to {SUBJECT_CHARACTERS_MAX} characters.", denial=Denial.JWT_CLAIMS
        )
    if not _is_name(tenant, TENANT_CHARACTERS_MAX):
        raise Unauthenticated(
            f"The token's tenant must be a string of 1 to {TENANT_CHARACTERS_MAX} characters.",
            denial=Denial.JWT_CLAIMS,
        )
    if not isinstance(scope, str | None):
        raise Unauthenticated(
            "The token's scope must be a string of scopes with spaces between them.", denial=Denial.JWT_CLAIMS
        )
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
