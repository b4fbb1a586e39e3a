"""Events: what happened in a session, numbered without gap in commit order."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from service.domain.caller import Caller


class EventType(StrEnum):
    """The closed list of what can happen."""

    SESSION_CREATED = "session.created"
    SESSION_ACTIVATED = "session.activated"
    SESSION_SUSPENDED = "session.suspended"
    SESSION_RESUMED = "session.resumed"
    SESSION_UPDATED = "session.updated"
    SESSION_ENDED = "session.ended"
    SESSION_EXPIRED = "session.expired"
    MESSAGE_CREATED = "message.created"
    MESSAGE_DELETED = "message.deleted"
    TOOL_CALL_REQUESTED = "tool_call.requested"
    TOOL_CALL_APPROVED = "tool_call.approved"
    TOOL_CALL_REJECTED = "tool_call.rejected"
    TOOL_CALL_EXPIRED = "tool_call.expired"
    TOOL_CALL_CANCELLED = "tool_call.cancelled"
    TOOL_CALL_STARTED = "tool_call.started"
    TOOL_CALL_COMPLETED = "tool_call.completed"
    TOOL_CALL_FAILED = "tool_call.failed"
    ATTACHMENT_UPLOADED = "attachment.uploaded"
    ATTACHMENT_PROCESSED = "attachment.processed"
    ATTACHMENT_FAILED = "attachment.failed"
    ATTACHMENT_DELETED = "attachment.deleted"


class ActorKind(StrEnum):
    """Who caused an event; `system` is Holdfast itself (the expiry sweep)."""

    SERVICE = "service"
    USER = "user"
    SYSTEM = "system"


class Actor(msgspec.Struct, frozen=True):
    """The author of an event."""

    kind: ActorKind
    subject: str


EXPIRY = Actor(kind=ActorKind.SYSTEM, subject="expiry")
"""The author of `session.expired` and `tool_call.expired`: time itself."""

INSPECTION = Actor(kind=ActorKind.SYSTEM, subject="inspection")
"""The author of `attachment.processed` and `attachment.failed`: the worker that looked at the file."""


class Event(msgspec.Struct, frozen=True):
    """One fact of a session's history. `data` is thin: it names what changed and never repeats content,

    so that deleting a message leaves nothing of it behind.
    """

    id: UUID
    type: EventType
    session_id: UUID
    seq: int
    occurred_at: datetime
    actor: Actor
    request_id: str | None
    data: msgspec.Raw


class NewEvent(msgspec.Struct, frozen=True):
    """An event that is about to be recorded; its number and time are given by the database."""

    id: UUID
    type: EventType
    data: dict[str, object]


class Cause(msgspec.Struct, frozen=True):
    """Who asked for a change, and by which request: it goes on every event of that change."""

    actor: Actor
    request_id: str | None

    @classmethod
    def of(cls, caller: Caller, request_id: str | None) -> Cause:
        """The cause of what `caller` does in the request `request_id`."""
        return cls(actor=Actor(kind=ActorKind(caller.kind.value), subject=caller.subject), request_id=request_id)
