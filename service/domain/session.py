"""Sessions: the states, the moves between them, and what a conversation's settings may be.

The diagram is drawn in `docs/states.md`; `MOVES` is the same diagram as a table.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, assert_never
from uuid import UUID

import msgspec
from msgspec import Meta

from service.domain.caller import SUBJECT_CHARACTERS_MAX
from service.domain.errors import (
    DomainError,
    InvalidTransition,
    MessageLimitExceeded,
    SessionEnded,
    SessionExpired,
    SessionNotActive,
    VersionMismatch,
)
from service.domain.event import EventType

METADATA_BYTES_MAX = 16 * 1024
"""Labels and references fit; documents belong into messages and attachments."""

MINUTES_PER_30_DAYS = 43_200

TOOL_PATTERNS_DESCRIPTION = (
    "Patterns of tool names: `*` stands for any characters or none, `?` for one, every other for itself. A context "
    "shows `mail.send` as `mail_send`, so a pattern is compared with every form of a name: one of `blocked_tools` or "
    "`approval_tools` catches all names that are shown alike, one of `allowed_tools` takes the names that it matches "
    "and their shown forms of the same length."
)

AgentId = Annotated[str, Meta(min_length=1, max_length=200)]
UserId = Annotated[str, Meta(min_length=1, max_length=SUBJECT_CHARACTERS_MAX)]
Title = Annotated[str, Meta(max_length=200)]
ExternalId = Annotated[str, Meta(min_length=1, max_length=200)]
Tag = Annotated[str, Meta(min_length=1, max_length=64)]
Tags = Annotated[list[Tag], Meta(max_length=32)]
Metadata = dict[str, Any]

MaxMessages = Annotated[int, Meta(ge=1, le=1_000_000)]
MaxAttachments = Annotated[int, Meta(ge=0, le=10_000)]
MaxAttachmentSize = Annotated[int, Meta(ge=1024, le=100 * 1024 * 1024, description="Bytes, 1 KiB to 100 MiB.")]
TimeoutMinutes = Annotated[
    int,
    Meta(
        ge=1,
        le=MINUTES_PER_30_DAYS,
        description="Until the session's time is over, counted from the last message or step of a tool call.",
    ),
]
ApprovalTimeoutSeconds = Annotated[int, Meta(ge=1, le=2_592_000)]
PATTERNS_MAX = 50
"""In one list. With the next number it bounds what a name costs: 3,250 bits of state for each list."""

PATTERN_CHARACTERS_MAX = 64
"""As long as the longest name that every provider takes; a longer name is matched with `*`."""

ToolPattern = Annotated[str, Meta(min_length=1, max_length=PATTERN_CHARACTERS_MAX)]
ToolPatterns = Annotated[list[ToolPattern], Meta(max_length=PATTERNS_MAX, description=TOOL_PATTERNS_DESCRIPTION)]
StandingPatterns = Annotated[
    list[str],
    Meta(
        description=f"At most {PATTERNS_MAX} patterns of at most {PATTERN_CHARACTERS_MAX} characters; sessions from "
        "before this limit keep what they have until the list is replaced."
    ),
]
SystemPrompt = Annotated[str, Meta(min_length=1, max_length=100_000)]


class Status(StrEnum):
    """Where a session stands in its life."""

    CREATED = "created"
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ENDED = "ended"


class EndReason(StrEnum):
    """Why a session ended: somebody asked, or its time was over."""

    REQUESTED = "requested"
    EXPIRED = "expired"


class Move(StrEnum):
    """What a caller may ask of a session's life."""

    ACTIVATE = "activate"
    SUSPEND = "suspend"
    RESUME = "resume"
    END = "end"


MOVES: dict[tuple[Status, Move], Status] = {
    (Status.CREATED, Move.ACTIVATE): Status.ACTIVE,
    (Status.CREATED, Move.END): Status.ENDED,
    (Status.ACTIVE, Move.SUSPEND): Status.SUSPENDED,
    (Status.ACTIVE, Move.END): Status.ENDED,
    (Status.SUSPENDED, Move.ACTIVATE): Status.ACTIVE,
    (Status.SUSPENDED, Move.RESUME): Status.ACTIVE,
    (Status.SUSPENDED, Move.END): Status.ENDED,
}


class SessionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of one conversation as they stand."""

    max_messages: MaxMessages = 10_000
    max_attachments: MaxAttachments = 100
    max_attachment_size: MaxAttachmentSize = 10 * 1024 * 1024
    timeout_minutes: TimeoutMinutes = 60
    approval_timeout_seconds: ApprovalTimeoutSeconds | None = None
    allowed_tools: StandingPatterns = []
    blocked_tools: StandingPatterns = []
    approval_tools: StandingPatterns = []
    enable_code_interpreter: bool = True
    enable_mcp_tools: bool = True
    enable_file_search: bool = True
    system_prompt_override: SystemPrompt | None = None


class ConfigDraft(SessionConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of a new conversation; each has a default, so `{}` is a whole config."""

    allowed_tools: ToolPatterns = []
    blocked_tools: ToolPatterns = []
    approval_tools: ToolPatterns = []


class Session(msgspec.Struct, frozen=True):
    """A conversation as its callers see it. Field order equals the column order of `store.session_rows.COLUMNS`."""

    id: UUID
    user_id: str
    agent_id: str
    status: Status
    title: str | None
    external_id: str | None
    config: SessionConfig
    metadata: msgspec.Raw
    tags: list[str]
    message_count: int
    attachment_count: int
    pending_tool_call_count: int
    version: int
    created_at: datetime
    updated_at: datetime
    last_message_at: datetime | None
    expires_at: datetime
    ended_at: datetime | None
    end_reason: EndReason | None


def allowed_moves(status: Status) -> list[Move]:
    """The moves that are legal from `status`, in the order of the diagram."""
    return [move for (origin, move) in MOVES if origin is status]


def after_move(session: Session, move: Move) -> Status:
    """The status that `move` leads to.

    Raises:
        SessionExpired: the session's time is over.
        InvalidTransition: the diagram lacks this move; it names the current status and the legal moves.
    """
    refuse_if_expired(session)
    target = MOVES.get((session.status, move))
    if target is None:
        raise InvalidTransition(
            f"A session that is {session.status} cannot {move}.",
            current_status=session.status,
            allowed=allowed_moves(session.status),
        )
    return target


def event_of(move: Move) -> EventType:
    """The event that tells of `move`."""
    match move:
        case Move.ACTIVATE:
            return EventType.SESSION_ACTIVATED
        case Move.SUSPEND:
            return EventType.SESSION_SUSPENDED
        case Move.RESUME:
            return EventType.SESSION_RESUMED
        case Move.END:
            return EventType.SESSION_ENDED
        case _:
            assert_never(move)


def renews_time(move: Move) -> bool:
    """Whether `move` gives the session its full `timeout_minutes` again."""
    match move:
        case Move.ACTIVATE | Move.RESUME:
            return True
        case Move.SUSPEND | Move.END:
            return False
        case _:
            assert_never(move)


def refuse_if_expired(session: Session) -> None:
    """Refuse every write to a session whose time is over, whether or not the sweep has recorded it.

    Raises:
        SessionExpired: naming when it ended.
    """
    if session.end_reason is EndReason.EXPIRED:
        raise SessionExpired(current_status=session.status, ended_at=session.ended_at)


def refuse_change(session: Session) -> None:
    """Refuse to change a session that is over.

    Raises:
        SessionExpired: its time is over.
        SessionEnded: somebody ended it.
    """
    refuse_if_expired(session)
    if session.status is Status.ENDED:
        raise SessionEnded(current_status=session.status, allowed=allowed_moves(session.status))


def refuse_other_version(session: Session, versions: frozenset[int] | None) -> None:
    """Refuse unless the session's version is among `versions` (from If-Match); None: any version will do.

    Raises:
        VersionMismatch: naming the current version.
    """
    if versions is not None and session.version not in versions:
        raise VersionMismatch(current_version=session.version)


def refusal_of_append(session: Session, count: int) -> DomainError | None:
    """Why `count` messages cannot be appended now; None when they can.

    The guard in `store.appends.TARGET` decides the same in SQL; a property test holds the two together.
    """
    if session.end_reason is EndReason.EXPIRED:
        return SessionExpired(current_status=session.status, ended_at=session.ended_at)
    if session.status is not Status.ACTIVE:
        return SessionNotActive(
            f"The session is {session.status}; messages can only be added while it is active.",
            current_status=session.status,
            allowed=allowed_moves(session.status),
        )
    if session.message_count + count > session.config.max_messages:
        return MessageLimitExceeded(
            f"The session holds {session.message_count} of at most {session.config.max_messages} messages; "
            f"{count} more do not fit.",
            current_status=session.status,
            message_count=session.message_count,
            max_messages=session.config.max_messages,
        )
    return None
