"""API keys: 256 random bits that are shown once and stored only as a digest."""

from __future__ import annotations

import hashlib
import secrets
import string
from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec

from service.domain.caller import SUBJECT_CHARACTERS_MAX, Caller, CallerKind, Scope
from service.domain.errors import Fault, InsufficientScope, InvalidRequest

PREFIX = "hf_"
ALPHABET = string.ascii_letters + string.digits
SECRET_CHARACTERS = 43
"""43 characters of 62 are 256 bits: beyond guessing, so one SHA-256 is enough to store them."""
LATER_THAN_ITS_MAKER = "Later than these credentials end; leave it out, and the key ends with them"
HINT_CHARACTERS = 4
"""Enough to tell two keys apart in a list, useless for guessing the rest."""

BY_COMMAND = "command"
"""Who makes and revokes keys from the operator's command line, for which there are no credentials."""

KeyName = Annotated[str, msgspec.Meta(min_length=1, max_length=SUBJECT_CHARACTERS_MAX)]
DEFAULT_SCOPES = (Scope.SESSIONS_READ, Scope.SESSIONS_WRITE, Scope.SESSIONS_ACT)
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


def user_of_new_key(maker: Caller, user_id: str | None) -> str | None:
    """The user as whom a key acts that `maker` makes; None: it is the tenant's. A user makes keys for itself alone.

    Raises:
        InvalidRequest: a user asks for another one's key.
    """
    if maker.kind is CallerKind.SERVICE:
        return user_id
    if user_id not in {None, maker.subject}:
        raise InvalidRequest([Fault("body.user_id", "Only service keys make keys for others")])
    return maker.subject


def refuse_wider_scopes(maker: Caller, scopes: list[Scope]) -> None:
    """Refuse a key that may do more than `maker` may.

    Raises:
        InsufficientScope: naming the scope that `maker` lacks.
    """
    for scope in scopes:
        if not maker.holds(scope):
            raise InsufficientScope(
                f"These credentials lack the scope '{scope}', so they make no key that has it.", required_scope=scope
            )


def refuse_longer_life(lifetime: timedelta | None, ends: datetime | None, now: datetime) -> None:
    """Refuse a key that is asked to live longer than its maker's credentials, which end at `ends` (None: never).

    Raises:
        InvalidRequest: it would.
    """
    if lifetime is not None and ends is not None and now + lifetime > ends:
        raise InvalidRequest([Fault("body.expires_in_days", LATER_THAN_ITS_MAKER)])


def new_secret() -> str:
    """A fresh secret: `hf_` and 43 letters and digits, from the operating system's randomness."""
    return PREFIX + "".join(secrets.choice(ALPHABET) for _ in range(SECRET_CHARACTERS))


def digest(secret: str) -> bytes:
    """The SHA-256 digest by which a secret is stored and found."""
    return hashlib.sha256(secret.encode()).digest()
