"""Identifiers in paths: the canonical text of a UUID, or no such thing."""

from __future__ import annotations

import re
from uuid import UUID

from service.domain.errors import DomainError

CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def identifier(text: str, missing: type[DomainError]) -> UUID:
    """The id that `text` is.

    Raises:
        `missing`: anything but the one canonical form (RFC 9562, lower case) names nothing.
    """
    if CANONICAL_UUID.fullmatch(text) is None:
        raise missing
    return UUID(text)
