"""API keys: 256 random bits that are shown once and stored only as a digest."""

from __future__ import annotations

import hashlib
import secrets
import string
from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from service.domain.caller import SUBJECT_CHARACTERS_MAX, Scope

PREFIX = "hf_"
ALPHABET = string.ascii_letters + string.digits
SECRET_CHARACTERS = 43
"""43 characters of 62 are 256 bits: beyond guessing, so one SHA-256 is enough to store them."""
HINT_CHARACTERS = 4
"""Enough to tell two keys apart in a list, useless for guessing the rest."""

BY_COMMAND = "command"
"""Who makes and revokes keys from the operator's command line, for which there are no credentials."""

KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=SUBJECT_CHARACTERS_MAX)]
DEFAULT_SCOPES = (Scope.SESSIONS_READ, Scope.SESSIONS_WRITE)
"""What an agent's runtime needs; deciding on tool calls and administration are asked for by name."""


class ApiKey(msgspec.Struct, frozen=True):
    """What is known of a key once its secret has been shown: never the secret itself.

    `created_by` and `revoked_by` name `key:` and the id of a key, `user:` and the subject of a token, or `command` for
    the operator's own; null where it was not kept. `last_used_at` is late by a few minutes.
    """

    id: UUID
    name: str
    user_id: str | None
    scopes: list[Scope]
    hint: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    created_by: str | None
    revoked_by: str | None
    last_used_at: datetime | None


def new_secret() -> str:
    """A fresh secret: `hf_` and 43 letters and digits, from the operating system's randomness."""
    return PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(SECRET_CHARACTERS))


def digest(secret: str) -> bytes:
    """The SHA-256 digest by which a secret is stored and found."""
    return hashlib.sha256(secret.encode()).digest()
