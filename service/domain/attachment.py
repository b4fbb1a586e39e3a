"""Attachments: what a file of a session may be, the states it goes through, and when its bytes may be had.

The diagram is drawn in `docs/states.md`.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.domain.errors import (
    AttachmentLimitExceeded,
    AttachmentNotReady,
    AttachmentTooLarge,
    Fault,
    InvalidTransition,
    SessionNotActive,
)
from service.domain.event import EventType
from service.domain.session import Session, Status, allowed_moves, refuse_change

FILENAME_CHARACTERS_MAX = 255
"""API 5. Names are shown, never used as paths, so no file system's limit applies."""

MEDIA_TYPE_CHARACTERS_MAX = 255
"""RFC 6838, section 4.2, allows 127 on each side of the slash."""

DEFAULT_FILENAME = "unnamed"
DEFAULT_MEDIA_TYPE = "application/octet-stream"

INSPECTIONS_MAX = 3
"""Files that one worker looks into at once: one tenant's on both cores of the smallest machine, and one of another's.
Each takes a core for as long as it computes, and 512 MiB at the most.
"""

KEPT_FREE = 1
"""Places of a worker that one tenant never takes. What is in work is never interrupted, so without it a tenant's slow
files would hold up the first file of another for a minute.
"""

ATTACHMENTS_PER_MESSAGE_MAX = 100
ATTEMPTS_MAX = 3
"""A worker that dies thrice over the same file dies of it."""

PATIENCE_SECONDS = 3600.0
"""How long a file waits for a storage or a scanner that is away, before it fails with that as its reason."""

MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
"""RFC 6838, section 4.2: `restricted-name` on both sides, in lower case."""

INTERRUPTED_TOO_OFTEN = f"Its inspection was interrupted {ATTEMPTS_MAX} times; the file may be too much for a worker."


def tenant_share(places: int) -> int:
    """How many of a worker's places one tenant may have at once: all but one, and at least one."""
    return max(1, places - KEPT_FREE)


class AttachmentType(StrEnum):
    """What sort of thing a file is, told from its bytes."""

    IMAGE = "image"
    DOCUMENT = "document"
    CODE = "code"
    DATA = "data"
    OTHER = "other"


class AttachmentStatus(StrEnum):
    """Where a file stands on its way to being understood; the last three are ends."""

    UPLOADED = "uploaded"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"
    QUARANTINED = "quarantined"


ENDS = frozenset({AttachmentStatus.READY, AttachmentStatus.FAILED, AttachmentStatus.QUARANTINED})

MediaType = Annotated[str, Meta(max_length=MEDIA_TYPE_CHARACTERS_MAX)]


class Attachment(msgspec.Struct, frozen=True):
    """A file of a session as its callers see it. A deleted one is a tombstone: no name, no properties, `deleted_at`.

    `content_type` is what the bytes are, once they have been looked at; until then, what the uploader said.
    """

    id: UUID
    session_id: UUID
    message_id: UUID | None
    filename: str
    content_type: str
    declared_content_type: str
    size: int
    sha256: str
    attachment_type: AttachmentType
    status: AttachmentStatus
    error: str | None
    properties: msgspec.Raw
    has_text: bool
    has_thumbnail: bool
    metadata: msgspec.Raw
    uploaded_at: datetime
    processed_at: datetime | None
    deleted_at: datetime | UnsetType = UNSET


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an inspection ended: one of the three ends, what was found, and the blobs that came out of it."""

    status: AttachmentStatus
    error: str | None = None
    content_type: str | None = None
    attachment_type: AttachmentType | None = None
    properties: dict[str, str | int | float | bool] = {}
    is_scanned: bool = False


def event_of(status: AttachmentStatus) -> EventType:
    """The event that tells of an end; a quarantined file is one that failed, and the event's data say how."""
    if status is AttachmentStatus.READY:
        return EventType.ATTACHMENT_PROCESSED
    return EventType.ATTACHMENT_FAILED


def refuse_upload(session: Session, size: int) -> None:
    """Refuse a file of `size` bytes that the session does not take now. Files may come before the first message.

    Raises:
        SessionExpired, SessionEnded: the session is over.
        SessionNotActive: it is suspended.
        AttachmentLimitExceeded: it has as many files as it may.
        AttachmentTooLarge: the file is larger than it may be.
    """
    refuse_change(session)
    if session.status is Status.SUSPENDED:
        raise SessionNotActive(
            "The session is suspended; files can be added once it is resumed.",
            current_status=session.status,
            allowed=allowed_moves(session.status),
        )
    if session.attachment_count >= session.config.max_attachments:
        raise AttachmentLimitExceeded(
            f"The session has {session.attachment_count} of at most {session.config.max_attachments} files.",
            current_status=session.status,
            attachment_count=session.attachment_count,
            max_attachments=session.config.max_attachments,
        )
    if size > session.config.max_attachment_size:
        raise AttachmentTooLarge(
            f"The session takes files of at most {session.config.max_attachment_size} bytes.",
            max_attachment_size=session.config.max_attachment_size,
        )


def refuse_retry(attachment: Attachment) -> None:
    """Refuse to process a file again that has not failed.

    Raises:
        InvalidTransition: it names the status and what is legal.
    """
    if attachment.status is not AttachmentStatus.FAILED:
        raise InvalidTransition(
            f"A file that is {attachment.status} cannot be processed again; only a failed one can.",
            current_status=attachment.status,
            allowed=[],
        )


def refuse_download(attachment: Attachment, *, must_be_scanned: bool, is_scanned: bool) -> None:
    """Refuse to hand out bytes that hold a virus, or that the scanner, where there is one, has not seen yet.

    Raises:
        AttachmentNotReady: naming the status.
    """
    if attachment.status is AttachmentStatus.QUARANTINED:
        raise AttachmentNotReady("The virus scanner found something in this file.", current_status=attachment.status)
    if must_be_scanned and not is_scanned:
        raise AttachmentNotReady("The virus scanner has not seen this file yet.", current_status=attachment.status)


def filename_faults(name: str, path: str) -> list[Fault]:
    """What a file's name must not hold: names are shown to people and sent in headers, and nothing else."""
    faults = []
    if len(name) > FILENAME_CHARACTERS_MAX:
        faults.append(Fault(path, f"Longer than {FILENAME_CHARACTERS_MAX} characters"))
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        faults.append(Fault(path, "A file's name may not hold control characters such as NUL or line breaks"))
    return faults


def media_type_of(declared: str) -> str:
    """A declared media type without its parameters, in lower case; what is none counts as unknown bytes."""
    media_type = declared.partition(";")[0].strip().lower()
    return media_type if MEDIA_TYPE.fullmatch(media_type) else DEFAULT_MEDIA_TYPE
