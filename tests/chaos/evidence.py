"""What is there in the end: rows, files, what arrived at the receiver, and what was left over; as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STAGED = "#"
"""What an unfinished file's name ends with, and a number."""


@dataclass(frozen=True)
class SessionRow:
    id: str
    status: str
    end_reason: str | None
    version: int
    message_count: int
    attachment_count: int
    pending: int
    last_message: int
    last_event: int
    fields: frozenset[str] = frozenset()
    """The names in its metadata."""


@dataclass(frozen=True)
class MessageRow:
    session: str
    seq: int
    id: str
    digest: str
    is_deleted: bool = False
    is_silent: bool = False
    """Deleted after the end of its session, which no event tells of."""


@dataclass(frozen=True)
class EventRow:
    session: str
    seq: int
    id: str
    type: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CallRow:
    session: str
    id: str
    status: str
    decided_by: str | None


@dataclass(frozen=True)
class FileRow:
    session: str
    id: str
    status: str
    sha256: str
    size: int
    is_deleted: bool = False
    error: str | None = None
    is_silent: bool = False


@dataclass(frozen=True)
class Delivery:
    event: str
    session: str
    seq: int
    status: str


@dataclass(frozen=True)
class Arrival:
    """One request that the webhook's receiver took."""

    event: str
    session: str
    seq: int
    type: str
    digest: str
    is_signed: bool
    at: float
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Evidence:
    """All of it, as plain values: the checks need nothing else, and no server."""

    sessions: list[SessionRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    calls: list[CallRow] = field(default_factory=list)
    files: list[FileRow] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    stored: dict[str, str] = field(default_factory=dict)
    """SHA-256 as the database says, by key of the object."""
    found: dict[str, str] = field(default_factory=dict)
    """SHA-256 of the bytes on disk, by key; what is staged only under its name on disk."""
    loose: set[str] = field(default_factory=set)
    left_over: dict[str, int] = field(default_factory=dict)
    broken_rules: list[str] = field(default_factory=list)
    """What `invariants.py` says of the database, in SQL."""
    has_cache: bool = True
    misbehaved: list[str] = field(default_factory=list)
    """Parts that ended by themselves, and whatever else went wrong beside the requests."""
