"""The public keys of the tokens' issuer: fetched from its JWKS document (RFC 7517), and kept while it is away.

A fetch is a task of its own with one limit of time for all of it. Requests with known keys never wait for one; those
with unknown keys wait for the one that runs, and for no other.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from contextlib import suppress
from typing import Any, cast

import httpx2
import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from service.domain.errors import Denial, IssuerAway, Unauthenticated
from service.log import get_logger

KEYS_SECONDS_MAX = 600.0
"""Age at which a document is fetched again, in the background: a key that was taken out counts for no longer."""

STALE_KEYS_SECONDS_MAX = 24 * 3600.0
"""How long keys stay in use while the issuer is away: over a night, and not for ever, as one may have been revoked."""

REFETCH_SECONDS_MIN = 30.0
"""Pause between two fetches while keys are at hand, so that made-up key ids cannot hammer the issuer."""

SILENCE_SECONDS_AFTER_FAILURE = 1.0
"""Pause after a failed fetch while there are no keys: short, because no token can be verified until then."""

FETCH_SECONDS_MAX = 3.0
"""For the whole of a fetch, from the name's look-up to the last byte: honest issuers take tenths of a second."""

DOCUMENT_BYTES_MAX = 256 * 1024
"""Dozens of keys; anything larger is not a JWKS document."""

RSA_BITS_MIN = 2048
"""NIST SP 800-131A: shorter RSA keys may not sign any more."""

EC_CURVE = "secp256r1"
"""The curve of ES256, P-256 (RFC 7518, section 3.4), as cryptography calls it."""

NOT_PUBLISHED = "The token is signed with a key that its issuer does not publish."

SAME_ID = "a later key has the same id"
"""Both are fit, and a token names a key by its id alone."""

LOG = get_logger("tokens")


class Published(msgspec.Struct):
    """What is read of a JWKS document: `keys`, whatever else it holds (RFC 7517, section 5)."""

    keys: list[Any]


class KeySet:
    """The issuer's keys, by their ids."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._refused: frozenset[tuple[str | None, str]] = frozenset()
        self._fetched_at = self._tried_at = float("-inf")
        self._has_failed = False
        self._fetching: asyncio.Task[None] | None = None
        self._next: asyncio.TimerHandle | None = None

    async def find(self, key_id: object) -> jwt.PyJWK:
        """The key called `key_id`; an unknown one is looked for in a new document, once.

        Raises:
            Unauthenticated: the issuer has no such key.
            IssuerAway: the newest document could not be fetched, so it may have.
        """
        name = key_id if isinstance(key_id, str) else None
        found = self._known().get(name)
        if found is not None:
            return found
        if self._fetching is None and self._may_fetch():
            self._fetch_soon()
        if self._fetching is not None:
            await asyncio.wait([self._fetching])
        found = self._known().get(name)
        if found is not None:
            return found
        if self._has_failed:
            raise IssuerAway
        raise Unauthenticated(NOT_PUBLISHED, denial=Denial.JWT_KEY_UNKNOWN)

    async def stop(self) -> None:
        """Fetch no more."""
        if self._next is not None:
            self._next.cancel()
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _known(self) -> dict[str | None, jwt.PyJWK]:
        if time.monotonic() - self._fetched_at > STALE_KEYS_SECONDS_MAX:
            self._keys = {}
        return self._keys

    def _may_fetch(self) -> bool:
        pause = SILENCE_SECONDS_AFTER_FAILURE if self._has_failed and not self._keys else REFETCH_SECONDS_MIN
        return time.monotonic() - self._tried_at > pause

    def _fetch_soon(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._refresh(), name="jwks-fetch")

    async def _refresh(self) -> None:
        try:
            async with asyncio.timeout(FETCH_SECONDS_MAX):
                document = await self._fetch()
            self._take(document)
        except Exception as error:  # noqa: BLE001 - a document may hold anything, and none of it is the caller's fault
            LOG.warning("jwks.unavailable", error=type(error).__name__)
            self._has_failed = True
        else:
            self._has_failed = False
            self._fetched_at = time.monotonic()
        finally:
            self._tried_at = time.monotonic()
            self._fetching = None
        if self._keys or not self._has_failed:
            pause = REFETCH_SECONDS_MIN if self._has_failed else KEYS_SECONDS_MAX
            self._next = asyncio.get_running_loop().call_later(pause, self._fetch_soon)

    async def _fetch(self) -> bytes:
        async with (
            httpx2.AsyncClient(timeout=FETCH_SECONDS_MAX, trust_env=False) as client,
            client.stream("GET", self._url) as response,
        ):
            response.raise_for_status()
            document = bytearray()
            async for chunk in response.aiter_bytes():
                document += chunk
                if len(document) > DOCUMENT_BYTES_MAX:
                    raise ValueError("the JWKS document is too large")
        return bytes(document)

    def _take(self, document: bytes) -> None:
        published = _readable_keys(msgspec.json.decode(document, type=Published).keys)
        if not published:
            raise ValueError("the JWKS document has no key that can be read")
        faults = [(key.key_id, fault_of(key, operations)) for key, operations in published]
        fit = [key for (key, _), (_, fault) in zip(published, faults, strict=True) if fault is None]
        refused = {(name, fault) for name, fault in faults if fault is not None}
        refused |= {(name, SAME_ID) for name, count in Counter(key.key_id for key in fit).items() if count > 1}
        for name, reason in refused - self._refused:
            LOG.warning("jwks.key_refused", key_id=name, reason=reason)
        self._refused = frozenset(refused)
        self._keys = {key.key_id: key for key in fit}


def _readable_keys(entries: list[Any]) -> list[tuple[jwt.PyJWK, Any]]:
    """The keys that can be read, each with its `key_ops`; what else stands among them is left out."""
    read: list[tuple[jwt.PyJWK, Any]] = []
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str | None):
            continue
        with suppress(Exception):  # of each wrong value PyJWT raises another one, and the other keys still count
            read.append((jwt.PyJWK(entry), entry.get("key_ops")))
    return read


def fault_of(key: jwt.PyJWK, operations: object) -> str | None:
    """Why no token may be signed with a published key with these `key_ops`; None: it is fit for RS256 or ES256."""
    if cast("object", key.public_key_use) not in (None, "sig"):  # no set: a list has no place in one
        return "its use is not sig"
    if operations is not None and not (
        isinstance(operations, list) and all(isinstance(one, str) for one in operations)
    ):
        return "its key_ops is no list of words"
    match key.key:
        case RSAPublicKey() as public if public.key_size < RSA_BITS_MIN:
            return f"RSA of {public.key_size} bits, fewer than {RSA_BITS_MIN}"
        case EllipticCurvePublicKey() as public if public.curve.name != EC_CURVE:
            return "not on the curve P-256"
        case RSAPublicKey() | EllipticCurvePublicKey():
            return None
        case _:
            return "no public key of RSA or EC"
