"""Kept answers as they are stored: sealed twice, with the caller's own Idempotency-Key and with `HOLDFAST_SECRET`.

An answer may hold what is shown only once (the secret of a new API key). A dump of the database alone does not open it,
however easily the Idempotency-Key is guessed; nor does the secret alone, where the key is hard to guess. The outer seal
is renewed without the key: `holdfast reseal`.
"""

from __future__ import annotations

import hashlib

from service.seals import Seals, decrypted, encrypted, is_sealed, place_of_answer
from service.store.idempotency import Kept

DIGEST_BYTES = hashlib.sha256().digest_size

NOTHING = b""
"""The inner seal is bound to no row: its key is the caller's own, and the outer one is."""


def sealed(seals: Seals, tenant_id: str, key_id: bytes, key: str, sent: bytes, body: bytes) -> bytes:
    """The answer to the request with this Idempotency-Key, as its row keeps it.

    `sent`: SHA-256 of what was sent. It stands in the seal, too: short words are guessed from a bare digest.
    """
    return seals.seal(place_of_answer(tenant_id, key_id), encrypted(_key_of_caller(key), sent + body, NOTHING))


def opened(seals: Seals, tenant_id: str, key_id: bytes, key: str, kept: Kept) -> tuple[bytes, bytes]:
    """What was sent and the answer again; also of versions that kept the digest beside, or had the inner seal alone.

    Raises:
        Unopened: the secret that sealed it is not at hand, it was kept in another row, or it has been changed.
    """
    stored = kept.body or b""
    inner = seals.open(place_of_answer(tenant_id, key_id), stored) if is_sealed(stored) else stored
    content = decrypted(_key_of_caller(key), inner, NOTHING)
    if kept.fingerprint:
        return kept.fingerprint, content
    return content[:DIGEST_BYTES], content[DIGEST_BYTES:]


def _key_of_caller(key: str) -> bytes:
    return hashlib.sha256(b"kept answer\0" + key.encode()).digest()
