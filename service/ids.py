"""New identifiers: UUIDv7 (RFC 9562), strictly increasing within a process, so that index pages fill in order."""

from __future__ import annotations

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7."""
    return uuid7()
