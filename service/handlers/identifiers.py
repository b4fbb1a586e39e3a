"""Identifiers in paths: the text of a UUID in either case, or no such thing."""

from __future__ import annotations

import re
from uuid import UUID

from service.domain.errors import DomainError

CANONICAL_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
UUID_IN_PATH = re.compile(r"(?<=/)[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}(?=/|\Z)")


def canonical_path(path: str) -> str:
    """`path` with its ids in lower case, in which they are answered: upper case is the same id (RFC 9562, section 4).

    The edge does this once, before anything reads the path: routes, the digest of an idempotency key, `instance` in
    problem documents and the log see one spelling. A POST that is sent again with its id in the other case is the same
    request.
    """
    return path if path.islower() else UUID_IN_PATH.sub(lambda found: found[0].lower(), path)


def identifier(text: str, missing: type[DomainError]) -> UUID:
    """The id that `text`, a part of a canonical path, is.

    Raises:
        `missing`: any other form (without hyphens, in braces, `urn:uuid:`) names nothing.
    """
    if CANONICAL_UUID.fullmatch(text) is None:
        raise missing
    return UUID(text)
