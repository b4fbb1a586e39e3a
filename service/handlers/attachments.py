"""`/sessions/{id}/attachments`: upload, list, download, look into, process again, delete."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from litestar import Response, delete, get, post
from litestar.params import FromPath

from service.announcements import Announcement
from service.blobs import new_key
from service.commands import attachments as commands
from service.domain import errors
from service.domain.attachment import ENDS, Attachment, refuse_download
from service.domain.caller import Scope
from service.domain.errors import AttachmentNotFound, AttachmentNotReady, SessionNotFound
from service.domain.share import holder_of
from service.handlers.authentication import caller_of, requires
from service.handlers.bodies import HoldfastRequest
from service.handlers.connecting import reading
from service.handlers.cursors import PAGE_ROWS_DEFAULT, CursorText, Limit, Page, fingerprint, page_of, read_cursor
from service.handlers.downloads import Download, download
from service.handlers.encoding import respond
from service.handlers.identifiers import identifier
from service.handlers.openapi import BINARY, REFUSALS, UPLOAD
from service.handlers.parts import parts_of
from service.handlers.uploads import receive
from service.handlers.writing import Answer, cause_of, refusals_settled, write
from service.ids import new_id
from service.places import Wording
from service.store import attachments as store
from service.store import blobs as blob_rows
from service.store.attachments import File, NewAttachment
from service.store.blobs import Stored
from service.store.idempotency import About

PATH = "/sessions/{session_id:str}/attachments"
ONE = PATH + "/{attachment_id:str}"
FIRST = UUID(int=0)
"""Before every id."""

UPLOADS = Wording("uploads", "try again when some of them have ended", errors.TooManyUploads)

READING = [SessionNotFound, AttachmentNotFound]
TEXT_MEDIA_TYPE = "text/plain; charset=utf-8"
THUMBNAIL_MEDIA_TYPE = "image/webp"


@post(
    PATH,
    before_request=requires(Scope.SESSIONS_WRITE),
    status_code=201,
    request_max_body_size=None,  # the session's own limit holds, counted while the bytes come
    opt={
        UPLOAD: True,
        REFUSALS: [
            SessionNotFound,
            AttachmentNotFound,
            errors.SessionNotActive,
            errors.SessionEnded,
            errors.SessionExpired,
            errors.AttachmentLimitExceeded,
            errors.AttachmentTooLarge,
            errors.UnsupportedMediaType,
            errors.StorageFull,
            errors.TooManyUploads,
        ],
    },
    operation_id="uploadAttachment",
)
async def upload_attachment(request: HoldfastRequest, session_id: FromPath[str]) -> Response[Attachment]:
    """Add a file: as a form (field `file`, and `metadata` as JSON), or as the body itself.

    It is streamed into the store and hashed on its way. It is there for good when this answers; looking into it goes on
    in the background. A raw body is named by `Content-Disposition: attachment; filename*=UTF-8''…`.
    """
    with parts_of(request).uploads.held(holder_of(caller_of(request))):
        return await _upload(request, identifier(session_id, SessionNotFound))


async def _upload(request: HoldfastRequest, wanted: UUID) -> Response[Attachment]:
    parts, caller = parts_of(request), caller_of(request)
    key = new_key(new_id())
    async with refusals_settled(request), reading(request) as tx:
        session = await commands.begin_upload(
            tx, caller, wanted, key, may_be_known="idempotency-key" in request.headers
        )
    async with Announcement(parts.database, parts.blobs, key, tenant_id=caller.tenant_id) as announcement:
        async with refusals_settled(request):
            received = await receive(request, parts.blobs, key, session.config.max_attachment_size)
            await announcement.confirm()
        new = NewAttachment(
            filename=received.filename,
            content_type=received.content_type,
            size=received.size,
            sha256=received.sha256,
            metadata=received.metadata,
        )
        stored = Stored(received.sha256, key, received.size)
        quota = parts.settings.tenant_storage_bytes

        async def effect(tx: Any) -> Answer:
            attachment = await commands.add_attachment(tx, caller, wanted, new, stored, quota, cause_of(request))
            return Answer.of(
                attachment,
                status=201,
                headers={"Location": f"/api/v1/sessions/{wanted}/attachments/{attachment.id}"},
                watched=wanted,
                about=About(session_id=wanted, item_ids=[attachment.id]),
            )

        return await write(request, effect, fingerprint=received.fingerprint, erased=AttachmentNotFound)


@get(PATH, before_request=requires(Scope.SESSIONS_READ), opt={REFUSALS: READING[:1]}, operation_id="listAttachments")
async def list_attachments(
    request: HoldfastRequest, session_id: FromPath[str], limit: Limit = PAGE_ROWS_DEFAULT, cursor: CursorText = None
) -> Response[Page[Attachment]]:
    """Page through a session's files, oldest first."""
    wanted = identifier(session_id, SessionNotFound)
    listing = fingerprint("attachments", wanted)
    after = FIRST if cursor is None else read_cursor(cursor, listing, UUID)
    async with reading(request) as tx:
        rows = await store.page(tx, caller_of(request), wanted, after_id=after, limit=limit + 1)
    if rows is None:
        raise SessionNotFound
    return respond(page_of(rows, limit, listing, lambda last: last.id))


@get(
    ONE,
    before_request=requires(Scope.SESSIONS_READ),
    opt={BINARY: "*/*", REFUSALS: [*READING, AttachmentNotReady, errors.RangeNotSatisfiable]},
    operation_id="downloadAttachment",
)
async def download_attachment(
    request: HoldfastRequest, session_id: FromPath[str], attachment_id: FromPath[str]
) -> Response[bytes]:
    """The file's bytes, whole or in a range, always to be saved and never to be rendered.

    A quarantined file is not handed out; nor, where a virus scanner is set up, is one that it has not seen.
    """
    file = await _file(request, session_id, attachment_id)
    return await _hand_out(request, file, file.sha256, file.attachment.content_type, file.attachment.filename)


async def _hand_out(
    request: HoldfastRequest, file: File, sha256: bytes, media_type: str, filename: str
) -> Response[Any]:
    """The file itself, or what came out of it: neither where the scanner stands in the way."""
    must_be_scanned = parts_of(request).settings.clamd is not None
    refuse_download(file.attachment, must_be_scanned=must_be_scanned, is_scanned=file.is_scanned)
    async with reading(request) as tx:
        stored = await blob_rows.find(tx, caller_of(request).tenant_id, sha256)
    if stored is None:  # deleted since its row was read
        raise AttachmentNotFound
    return await download(
        request, parts_of(request).blobs, Download(blob=stored, media_type=media_type, filename=filename)
    )


async def _file(request: HoldfastRequest, session_id: str, attachment_id: str) -> File:
    session, wanted = _identifiers(session_id, attachment_id)
    async with reading(request) as tx:
        is_visible, file = await store.get(tx, caller_of(request), session, wanted)
    if not is_visible:
        raise SessionNotFound
    if file is None:
        raise AttachmentNotFound
    return file


@get(
    ONE + "/metadata",
    before_request=requires(Scope.SESSIONS_READ),
    opt={REFUSALS: READING},
    operation_id="getAttachment",
)
async def get_attachment(
    request: HoldfastRequest, session_id: FromPath[str], attachment_id: FromPath[str]
) -> Response[Attachment]:
    """What is known of a file, and how far its processing is."""
    return respond((await _file(request, session_id, attachment_id)).attachment)


@get(
    ONE + "/text",
    before_request=requires(Scope.SESSIONS_READ),
    opt={BINARY: TEXT_MEDIA_TYPE, REFUSALS: [*READING, AttachmentNotReady, errors.RangeNotSatisfiable]},
    operation_id="getAttachmentText",
)
async def get_text(
    request: HoldfastRequest, session_id: FromPath[str], attachment_id: FromPath[str]
) -> Response[bytes]:
    """The text that was found in a file, as UTF-8; 409 while it is being looked for, 404 where there is none."""
    file = await _file(request, session_id, attachment_id)
    if file.text_sha256 is None:
        raise _missing(file.attachment, "text")
    return await _hand_out(request, file, file.text_sha256, TEXT_MEDIA_TYPE, f"{file.attachment.filename}.txt")


@get(
    ONE + "/thumbnail",
    before_request=requires(Scope.SESSIONS_READ),
    opt={BINARY: THUMBNAIL_MEDIA_TYPE, REFUSALS: [*READING, AttachmentNotReady, errors.RangeNotSatisfiable]},
    operation_id="getAttachmentThumbnail",
)
async def get_thumbnail(
    request: HoldfastRequest, session_id: FromPath[str], attachment_id: FromPath[str]
) -> Response[bytes]:
    """A small picture of the file, its longest side at most 512 pixels; 409 and 404 as for its text."""
    file = await _file(request, session_id, attachment_id)
    if file.thumbnail_sha256 is None:
        raise _missing(file.attachment, "thumbnail")
    filename = f"{file.attachment.filename}.webp"
    return await _hand_out(request, file, file.thumbnail_sha256, THUMBNAIL_MEDIA_TYPE, filename)


def _missing(attachment: Attachment, what: str) -> AttachmentNotReady | AttachmentNotFound:
    """Why there is no text or thumbnail: not yet, or not at all."""
    if attachment.status in ENDS:
        return AttachmentNotFound(f"This attachment has no {what}.", current_status=attachment.status)
    return AttachmentNotReady(
        f"The {what} of this attachment is not there yet; it is {attachment.status}.", current_status=attachment.status
    )


@post(
    ONE + "/retry",
    before_request=requires(Scope.SESSIONS_WRITE),
    status_code=200,
    opt={REFUSALS: [*READING, errors.InvalidTransition, errors.SessionEnded, errors.SessionExpired]},
    operation_id="retryAttachment",
)
async def retry_attachment(
    request: HoldfastRequest, session_id: FromPath[str], attachment_id: FromPath[str]
) -> Response[Attachment]:
    """Process a file that failed once more, from the start."""
    caller, session, wanted = caller_of(request), *_identifiers(session_id, attachment_id)

    async def effect(tx: Any) -> Answer:
        again = await commands.retry_attachment(tx, caller, session, wanted, cause_of(request))
        about = About(session_id=session, item_ids=[again.id])
        return Answer.of(again, status=200, watched=session, about=about)

    return await write(request, effect, erased=AttachmentNotFound)


@delete(
    ONE,
    before_request=requires(Scope.SESSIONS_WRITE),
    status_code=204,
    opt={REFUSALS: READING},
    operation_id="deleteAttachment",
)
async def delete_attachment(
    request: HoldfastRequest, session_id: FromPath[str], attachment_id: FromPath[str]
) -> Response[None]:
    """Delete a file for good; messages that refer to it keep a tombstone. Again: 204.

    It works in every state of the session; after the session's end no event tells of it.
    """
    caller, session, wanted = caller_of(request), *_identifiers(session_id, attachment_id)

    async def effect(tx: Any) -> Answer:
        changed = await commands.delete_attachment(tx, caller, session, wanted, cause_of(request))
        return Answer(status=204, changed=changed, watched=session)

    return await write(request, effect)


def _identifiers(session_id: str, attachment_id: str) -> tuple[UUID, UUID]:
    return identifier(session_id, SessionNotFound), identifier(attachment_id, AttachmentNotFound)


HANDLERS = [
    upload_attachment,
    list_attachments,
    download_attachment,
    get_attachment,
    get_text,
    get_thumbnail,
    retry_attachment,
    delete_attachment,
]
