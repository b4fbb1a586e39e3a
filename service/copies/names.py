"""How copies are named in Redis."""

from __future__ import annotations

import hashlib
from enum import Enum
from uuid import UUID

SCHEMA = b"holdfast:1:"
"""Before every key. Another layout of keys or entries gets another number, and never sees the old ones."""

GENERATION = SCHEMA + b"generation"
"""The key of what all copies of this moment carry; see `scripts.py`."""

TENANT_BYTES = 12


class Kind(Enum):
    """What is copied: a session as `GET /sessions/{id}` answers it, or its newest messages."""

    SNAPSHOT = b":s"
    WINDOW = b":w"

    @property
    def label(self) -> str:
        """Its name in metrics."""
        return self.name.lower()


def session_name(tenant_id: str, session_id: UUID) -> bytes:
    """What the keys of a session's copies begin with.

    The tenant is a digest, because it may hold anything. A copy is never found under another tenant's name.
    """
    tenant = hashlib.blake2b(tenant_id.encode("utf-8", "surrogateescape"), digest_size=TENANT_BYTES).hexdigest()
    return b"%b{%b}:%b" % (SCHEMA, tenant.encode(), session_id.hex.encode())


def session_of(key: bytes) -> tuple[bytes, UUID, Kind] | None:
    """The name, the session and the kind that a key of Redis stands for; None: it is no copy's."""
    name, kind = key[:-2], key[-2:]
    if not key.startswith(SCHEMA) or kind not in {Kind.SNAPSHOT.value, Kind.WINDOW.value}:
        return None
    try:
        return name, UUID(name.rpartition(b":")[2].decode()), Kind(kind)
    except (ValueError, UnicodeDecodeError):
        return None
