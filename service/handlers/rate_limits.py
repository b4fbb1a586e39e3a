"""Who has asked too often is told so, and when to come back. Where no limit is set, this costs nothing."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection

from service.domain.errors import Denial, RateLimited, Unauthenticated
from service.domain.ticket import Credential
from service.handlers.look_ups import NotLookedUp
from service.handlers.request_lines import CREDENTIAL_KEY, DENIAL_KEY
from service.rates import Rates, Standing

STANDING_KEY = "holdfast.standing"
"""Where the standing is left in the ASGI scope, for the edge to put it on the answer."""

FREE = ("/health/", "/metrics")
"""Asked by machines of the operator's, which must not run into a limit."""

BAD_CREDENTIALS = (
    "{limit} credentials that are not valid here have come from this address in the time in which so many may; "
    "correct them, and wait {seconds} s."
)

NOT_YET = "You have made {limit} requests in the time in which you may make so many; wait {seconds} s."


async def counted(request: ASGIConnection[Any, Any, Any, Any], proof: Awaitable[Credential]) -> Credential:
    """The credential that `proof` gives, its request counted; one that proves nothing counts for its address.

    Whoever can prove who they are is never refused for what others behind the same address do. Who it was, or why it
    is nobody, is left in the ASGI scope.

    Raises:
        RateLimited: there were too many.
        whatever `proof` raises.
    """
    rates: Rates | None = request.app.state.parts.rates
    try:
        credential = await proof
    except Unauthenticated as refusal:
        request.scope[DENIAL_KEY] = refusal.denial  # type: ignore[literal-required]  # ASGI lets apps add keys
        if rates is not None:
            await _count_denied(request, rates, refusal)
        raise
    request.scope[CREDENTIAL_KEY] = credential  # type: ignore[literal-required]  # as above
    if rates is None:
        return credential
    caller = credential.caller
    # A key counts for itself, whatever its name; a token for the user that it names, as there is always a newer one.
    who = f"{caller.kind}:{caller.subject}" if credential.key_digest is None else credential.key_digest.hex()
    _note(request, await rates.count_caller(caller.tenant_id, who))
    return credential


async def _count_denied(request: ASGIConnection[Any, Any, Any, Any], rates: Rates, refusal: Unauthenticated) -> None:
    address = address_of(request)
    if isinstance(refusal, NotLookedUp):
        _note(request, refusal.standing, BAD_CREDENTIALS)
    elif refusal.denial is not Denial.MISSING:
        _note(request, await rates.count_bad_credentials(address), BAD_CREDENTIALS)
    _note(request, await rates.count_address(address))


async def count_stranger(request: Request[Any, Any, Any]) -> None:
    """What a page that is open to all does before anything else.

    Raises:
        RateLimited: too many requests came from there.
    """
    rates: Rates | None = request.app.state.parts.rates
    if rates is not None and not request.scope["path"].startswith(FREE):
        _note(request, await rates.count_address(address_of(request)))


def address_of(request: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """Where a request comes from: the client's address, or what a trusted proxy says that it is."""
    client = request.scope["client"]
    return None if client is None else client[0]


def _note(request: ASGIConnection[Any, Any, Any, Any], standing: Standing | None, sentence: str = NOT_YET) -> None:
    if standing is None:
        return
    noted: Standing | None = request.scope.get(STANDING_KEY)  # type: ignore[assignment]
    if noted is None or standing.share_left < noted.share_left:
        request.scope[STANDING_KEY] = standing  # type: ignore[literal-required]  # ASGI lets apps add keys
    if not standing.allowed:
        request.app.state.parts.metrics.rate_limited.inc()
        raise RateLimited(
            sentence.format(limit=standing.limit, seconds=standing.reset_seconds), after_seconds=standing.reset_seconds
        )


def headers_of(standing: Standing) -> list[tuple[bytes, bytes]]:
    """What every answer says of the limit."""
    return [
        (b"ratelimit-limit", b"%d" % standing.limit),
        (b"ratelimit-remaining", b"%d" % standing.remaining),
        (b"ratelimit-reset", b"%d" % standing.reset_seconds),
    ]
