"""What a file may be called, when a session takes one, and when its bytes may be had."""

from __future__ import annotations

from typing import Any

import drawn
import msgspec
import pytest
from drawn import NOW
from hypothesis import given
from hypothesis import strategies as st

from service.domain.attachment import (
    DEFAULT_MEDIA_TYPE,
    ENDS,
    Attachment,
    AttachmentStatus,
    AttachmentType,
    event_of,
    filename_faults,
    media_type_of,
    refuse_download,
    refuse_retry,
    refuse_upload,
)
from service.domain.errors import (
    AttachmentLimitExceeded,
    AttachmentNotReady,
    AttachmentTooLarge,
    DomainError,
    InvalidTransition,
    SessionEnded,
    SessionExpired,
    SessionNotActive,
)
from service.domain.event import EventType
from service.domain.session import EndReason, Move, Session, SessionConfig, Status
from service.ids import new_id

CONFIG = SessionConfig(max_attachments=3, max_attachment_size=2048)


def session_that_is(status: Status, *, files: int = 0, **fields: Any) -> Session:
    return drawn.session_that_is(status, config=CONFIG, attachment_count=files, **fields)


def file_that_is(status: AttachmentStatus) -> Attachment:
    return Attachment(
        id=new_id(),
        session_id=new_id(),
        message_id=None,
        filename="a.txt",
        content_type="text/plain",
        declared_content_type="text/plain",
        size=1,
        sha256="00" * 32,
        attachment_type=AttachmentType.OTHER,
        status=status,
        error=None,
        properties=msgspec.Raw(b"{}"),
        has_text=False,
        has_thumbnail=False,
        metadata=msgspec.Raw(b"{}"),
        uploaded_at=NOW,
        processed_at=None,
    )


@pytest.mark.parametrize("status", [Status.CREATED, Status.ACTIVE])
@pytest.mark.parametrize(("files", "size"), [(0, 0), (0, 2048), (2, 2048)])
def test_a_session_takes_files_up_to_its_limits_also_before_its_first_message(status: Status, files: int, size: int):
    refuse_upload(session_that_is(status, files=files), size)


@pytest.mark.parametrize(
    ("session", "size", "refusal", "extras"),
    [
        (
            session_that_is(Status.SUSPENDED),
            0,
            SessionNotActive,
            {"current_status": "suspended", "allowed": [Move.ACTIVATE, Move.RESUME, Move.END]},
        ),
        (session_that_is(Status.ENDED), 0, SessionEnded, {"current_status": "ended", "allowed": []}),
        (
            session_that_is(Status.ENDED, end_reason=EndReason.EXPIRED),
            0,
            SessionExpired,
            {"current_status": "ended", "ended_at": NOW},
        ),
        (
            session_that_is(Status.ACTIVE, files=3),
            0,
            AttachmentLimitExceeded,
            {"current_status": "active", "attachment_count": 3, "max_attachments": 3},
        ),
        (session_that_is(Status.ACTIVE, files=9), 0, AttachmentLimitExceeded, {"attachment_count": 9}),
        (session_that_is(Status.ACTIVE), 2049, AttachmentTooLarge, {"max_attachment_size": 2048}),
        # What stands in the way first is said first: the session, then the number, then the size.
        (session_that_is(Status.SUSPENDED, files=3), 2049, SessionNotActive, {}),
        (session_that_is(Status.ACTIVE, files=3), 2049, AttachmentLimitExceeded, {}),
    ],
)
def test_a_file_is_refused_with_what_stands_in_the_way(
    session: Session, size: int, refusal: type[DomainError], extras: dict[str, Any]
):
    with pytest.raises(refusal) as refused:
        refuse_upload(session, size)

    assert {name: refused.value.extras[name] for name in extras} == extras
    assert refused.value.detail.endswith(".")


@pytest.mark.parametrize("status", AttachmentStatus)
def test_only_a_failed_file_is_processed_again(status: AttachmentStatus):
    if status is AttachmentStatus.FAILED:
        refuse_retry(file_that_is(status))
        return
    with pytest.raises(InvalidTransition) as refused:
        refuse_retry(file_that_is(status))

    assert refused.value.extras == {"current_status": status, "allowed": []}


@pytest.mark.parametrize("status", AttachmentStatus)
@pytest.mark.parametrize("must_be_scanned", [True, False])
@pytest.mark.parametrize("is_scanned", [True, False])
def test_bytes_are_handed_out_unless_a_scanner_found_something_or_has_not_looked(
    status: AttachmentStatus, must_be_scanned: bool, is_scanned: bool
):
    may_be_had = status is not AttachmentStatus.QUARANTINED and (is_scanned or not must_be_scanned)
    if may_be_had:
        refuse_download(file_that_is(status), must_be_scanned=must_be_scanned, is_scanned=is_scanned)
        return
    with pytest.raises(AttachmentNotReady) as refused:
        refuse_download(file_that_is(status), must_be_scanned=must_be_scanned, is_scanned=is_scanned)

    assert refused.value.extras == {"current_status": status}


def test_every_end_has_its_event():
    assert {status: event_of(status) for status in ENDS} == {
        AttachmentStatus.READY: EventType.ATTACHMENT_PROCESSED,
        AttachmentStatus.FAILED: EventType.ATTACHMENT_FAILED,
        AttachmentStatus.QUARANTINED: EventType.ATTACHMENT_FAILED,
    }


@pytest.mark.parametrize("character", list(map(chr, [*range(32), *range(127, 160), 0xD800, 0xDFFF])))
def test_a_name_with_a_control_character_or_half_a_character_is_refused(character: str):
    faults = filename_faults(f"a{character}b", "header.X")

    assert [fault.path for fault in faults] == ["header.X"]
    assert "NUL" in faults[0].message


def test_a_name_of_256_characters_is_refused_and_every_fault_is_named():
    assert len(filename_faults("x" * 256, "p")) == 1
    assert len(filename_faults("\n" * 256, "p")) == 2


@pytest.mark.parametrize(
    ("declared", "media_type"),
    [
        ("text/plain", "text/plain"),
        ("Text/HTML; charset=UTF-8", "text/html"),
        (" image/png ", "image/png"),
        ("application/vnd.ms-excel.sheet.macroEnabled.12", "application/vnd.ms-excel.sheet.macroenabled.12"),
        ("x/y;", "x/y"),
        ("a" * 127 + "/" + "b" * 127, "a" * 127 + "/" + "b" * 127),
        ("a" * 128 + "/b", DEFAULT_MEDIA_TYPE),
        ("", DEFAULT_MEDIA_TYPE),
        ("text", DEFAULT_MEDIA_TYPE),
        ("/plain", DEFAULT_MEDIA_TYPE),
        ("text/", DEFAULT_MEDIA_TYPE),
        ("*/*", DEFAULT_MEDIA_TYPE),
        ("text/plain\r\nX-Evil: 1", DEFAULT_MEDIA_TYPE),
        ("text/plain, text/html", DEFAULT_MEDIA_TYPE),
        ("téxt/plain", DEFAULT_MEDIA_TYPE),
        ("text/html\x00", DEFAULT_MEDIA_TYPE),
    ],
)
def test_a_declared_type_is_kept_without_parameters_and_nonsense_is_unknown_bytes(declared: str, media_type: str):
    assert media_type_of(declared) == media_type


@given(st.text())
def test_whatever_is_declared_becomes_a_media_type_that_can_stand_in_a_header(declared: str):
    media_type = media_type_of(declared)

    assert media_type.isascii()
    assert media_type.isprintable()
    assert len(media_type) <= 255
    assert media_type.count("/") == 1
    assert media_type_of(media_type) == media_type
