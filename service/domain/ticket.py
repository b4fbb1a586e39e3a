"""Tickets: what lets a browser, whose EventSource sends no headers, open one stream, once, within a minute."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from service.domain.caller import Caller

PREFIX = "hft_"
TICKET_BYTES = 32
"""256 bits: beyond guessing, so one SHA-256 is enough to store them."""

TICKET_SECONDS = 60
"""From the answer that brings it to the request that uses it: a page's own next step."""


CALENDAR_ENDS = datetime.max.replace(tzinfo=UTC).timestamp()


class Credential(msgspec.Struct, frozen=True):
    """What proved who calls, so that it can be asked later whether it still does.

    `key_digest` and `key_id`: of an API key. `ends`: when a token is over, in seconds since 1970; `issuer`: of a token.
    """

    caller: Caller
    key_digest: bytes | None = None
    ends: float | None = None
    key_id: UUID | None = None
    issuer: str | None = None

    @property
    def name(self) -> str:
        """Whom a row names as its author: `key:` and an id, or `user:` and the subject of a token."""
        return f"user:{self.caller.subject}" if self.key_id is None else f"key:{self.key_id}"

    @property
    def token_ends_at(self) -> datetime | None:
        """When the token is over; None: it is no token, or one that outlives the calendar."""
        if self.ends is None or self.ends >= CALENDAR_ENDS:
            return None
        return datetime.fromtimestamp(self.ends, UTC)


class Ticket(msgspec.Struct, frozen=True):
    """What opens one stream: send it as `?ticket=…` before `expires_at`. It works once."""

    ticket: str
    expires_at: datetime


def new_ticket() -> str:
    """A fresh ticket, from the operating system's randomness."""
    return PREFIX + secrets.token_urlsafe(TICKET_BYTES)


def digest(ticket: str) -> bytes:
    """The SHA-256 digest by which a ticket is stored and found."""
    return hashlib.sha256(ticket.encode("utf-8", "surrogateescape")).digest()
