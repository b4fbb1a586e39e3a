"""Seals: what must be readable again, and by nobody who has the database alone.

A sealed value is `MAGIC | id of the secret | nonce | AES-256-GCM`. Its key is derived from `HOLDFAST_SECRET` for its
row alone (HKDF-SHA256, RFC 5869), and the row is authenticated with it (AAD), so a value that is put into another row
does not open. The secret stays in the environment of those processes that seal or open.
"""

from __future__ import annotations

import base64
import secrets as randomness
from collections.abc import Sequence
from enum import StrEnum
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MAGIC = b"holdfast\x01"
"""What every sealed value begins with, and the version of this format. Nine bytes are twelve characters of base64."""

ID_BYTES = 9
"""Of a secret: enough to tell a handful apart, and derived from it, so that it says nothing about it."""

MARK_BYTES = len(MAGIC) + ID_BYTES
KEY_BYTES = 32
NONCE_BYTES = 12
"""The nonce of AES-GCM (NIST SP 800-38D), fresh at random: 2^32 values of one row are allowed, and a row has few."""

SALT = b"holdfast seals"
"""Sets these keys apart from any other use of the same secret."""


class Unopened(Exception):
    """What is stored was sealed with a secret that is not at hand or for another row, or it has been changed."""


class Purpose(StrEnum):
    """What is sealed: keys for one never open another."""

    KEPT_ANSWER = "kept answer"
    WEBHOOK_SECRET = "webhook secret"  # noqa: S105 - a word about one


class Place(msgspec.Struct, frozen=True):
    """The row in which a sealed value stands, and where alone it opens."""

    purpose: Purpose
    tenant_id: str
    row_id: bytes

    @property
    def name(self) -> bytes:
        """The parts, each with its length, so that no two places are named alike."""
        parts = (self.purpose.encode(), self.tenant_id.encode("utf-8", "surrogateescape"), self.row_id)
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def place_of_answer(tenant_id: str, key_id: bytes) -> Place:
    """Of a kept answer; `key_id` is the digest of caller, route and Idempotency-Key."""
    return Place(Purpose.KEPT_ANSWER, tenant_id, key_id)


def place_of_webhook(tenant_id: str, webhook_id: UUID) -> Place:
    """Of an endpoint's secret; the one before it, which signs for another day, stands in the same row."""
    return Place(Purpose.WEBHOOK_SECRET, tenant_id, webhook_id.bytes)


class Seals:
    """Seals with the first of the secrets, and opens with all of them."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = {MAGIC + _derived(secret, b"id", ID_BYTES): secret for secret in secrets}
        self.mark = next(iter(self._secrets))
        """What begins everything that is sealed now; with another one, or none, it is to be sealed anew."""

    def knows(self, stored: bytes) -> bool:
        """Whether one of these secrets sealed this; it need not be whole, only as long as a mark."""
        return stored[:MARK_BYTES] in self._secrets

    def seal(self, place: Place, content: bytes) -> bytes:
        """`content` as it is stored at `place`."""
        return self.mark + encrypted(_key_of(self._secrets[self.mark], place), content, self.mark + place.name)

    def open(self, place: Place, sealed: bytes) -> bytes:
        """What was sealed for `place`.

        Raises:
            Unopened: with none of these secrets, or not for this place.
        """
        mark, rest = sealed[:MARK_BYTES], sealed[MARK_BYTES:]
        secret = self._secrets.get(mark)
        if secret is None:
            raise Unopened
        return decrypted(_key_of(secret, place), rest, mark + place.name)

    def seal_text(self, place: Place, content: str) -> str:
        """`content` as it is stored at `place` in a column of text: in base64."""
        return as_text(self.seal(place, content.encode()))

    def open_text(self, place: Place, stored: str) -> str:
        """What was sealed for `place`; text without a seal, of a version before there were seals, is given as it is.

        Raises:
            Unopened: with none of these secrets, or not for this place.
        """
        if not stored.startswith(as_text(MAGIC)):
            return stored
        try:
            sealed = base64.b64decode(stored, validate=True)
        except ValueError as error:
            raise Unopened from error
        return self.open(place, sealed).decode()


def is_sealed(stored: bytes) -> bool:
    """Whether this has a seal; a version before there were any stored it without."""
    return stored.startswith(MAGIC)


def as_text(sealed: bytes) -> str:
    """A sealed value, or its mark, in a column of text: the one begins with the other here, too."""
    return base64.b64encode(sealed).decode()


def encrypted(key: bytes, content: bytes, bound_to: bytes) -> bytes:
    """AES-256-GCM under a key of `KEY_BYTES`, behind its nonce."""
    nonce = randomness.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, bound_to)


def decrypted(key: bytes, stored: bytes, bound_to: bytes) -> bytes:
    """What `encrypted` made.

    Raises:
        Unopened: with another key, bound to something else, or changed since.
    """
    try:
        return AESGCM(key).decrypt(stored[:NONCE_BYTES], stored[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError) as error:
        raise Unopened from error


def _key_of(secret: bytes, place: Place) -> bytes:
    return _derived(secret, b"key" + place.name, KEY_BYTES)


def _derived(secret: bytes, info: bytes, length: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=SALT, info=info).derive(secret)
