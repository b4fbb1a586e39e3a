"""What can be done with the files of a session: add one, have it processed again, delete it."""

from __future__ import annotations

from uuid import UUID

import msgspec

from service.commands.sessions import record_end
from service.domain.attachment import Attachment, refuse_retry, refuse_upload
from service.domain.caller import Caller
from service.domain.errors import AttachmentNotFound, SessionNotFound
from service.domain.event import Cause, EventType, NewEvent
from service.domain.session import Session, Status, refuse_change
from service.ids import new_id
from service.store import attachments as store
from service.store import blobs, idempotency, sessions
from service.store.attachments import File, NewAttachment
from service.store.blobs import Stored
from service.store.engine import Tx


async def begin_upload(tx: Tx, caller: Caller, session_id: UUID, key: str, *, may_be_known: bool) -> Session:
    """Refuse a file as early as that can be told, and announce the object that its bytes are about to become.

    `may_be_known`: it came with an Idempotency-Key. What was answered to its first request stands, whatever has become
    of the session since; so only the end decides.

    Raises:
        SessionNotFound, SessionExpired, SessionEnded, SessionNotActive, AttachmentLimitExceeded.
    """
    session = await sessions.get(tx, caller, session_id)
    if session is None:
        raise SessionNotFound
    if not may_be_known:
        refuse_upload(session, 0)
    await blobs.announce(tx, [key])
    return session


async def add_attachment(
    tx: Tx, caller: Caller, session_id: UUID, new: NewAttachment, stored: Stored, quota: int | None, cause: Cause
) -> Attachment:
    """Make a stored object a file of the session, within the session's limits and the tenant's quota of bytes.

    Raises:
        SessionNotFound, SessionExpired, SessionEnded, SessionNotActive, AttachmentLimitExceeded, AttachmentTooLarge.
        StorageFull: the tenant has reached its quota.
    """
    locked = await sessions.lock(tx, caller, session_id)
    if locked is None:
        raise SessionNotFound
    refuse_upload(locked.session, new.size)
    await blobs.exchange(tx, caller.tenant_id, gained=[stored], lost=[], quota=quota)
    # Its id is made under the lock: pages go by ids, so a file that is later in them must come later into them.
    attachment = await store.add(tx, caller.tenant_id, session_id, new_id(), new, locked.moment)
    await sessions.record_children(
        tx,
        caller.tenant_id,
        session_id,
        moment=locked.moment,
        attachments=1,
        events=[attachment_event(attachment, EventType.ATTACHMENT_UPLOADED)],
        cause=cause,
    )
    return attachment


async def retry_attachment(tx: Tx, caller: Caller, session_id: UUID, attachment_id: UUID, cause: Cause) -> Attachment:
    """Let a file that failed be processed from the start, with all its attempts again.

    Raises:
        SessionNotFound, AttachmentNotFound, SessionExpired, SessionEnded.
        InvalidTransition: it has not failed.
    """
    locked, file = await _locked(tx, caller, session_id, attachment_id)
    if file is None:
        raise AttachmentNotFound
    refuse_change(locked.session)
    refuse_retry(file.attachment)
    again = await store.retry(tx, session_id, attachment_id, locked.moment)
    await sessions.record_children(
        tx,
        caller.tenant_id,
        session_id,
        moment=locked.moment,
        events=[attachment_event(again, EventType.ATTACHMENT_UPLOADED, retried=True)],
        cause=cause,
    )
    return again


async def delete_attachment(tx: Tx, caller: Caller, session_id: UUID, attachment_id: UUID, cause: Cause) -> bool:
    """Take a file away for good; messages that refer to it keep a tombstone. Again: nothing changes (False).

    In every state of its session. After the end no event tells of it, because nothing follows the end.

    Raises:
        SessionNotFound, AttachmentNotFound.
    """
    locked, file = await _locked(tx, caller, session_id, attachment_id)
    if file is None:
        return False
    await record_end(tx, caller.tenant_id, locked.session)
    await store.erase(tx, session_id, attachment_id, locked.moment)
    await idempotency.erase_item(tx, session_id, attachment_id)
    await blobs.exchange(tx, caller.tenant_id, gained=[], lost=file.digests, quota=None)
    event = NewEvent(id=new_id(), type=EventType.ATTACHMENT_DELETED, data={"attachment_id": attachment_id})
    await sessions.record_children(
        tx,
        caller.tenant_id,
        session_id,
        moment=locked.moment,
        attachments=-1,
        events=[] if locked.session.status is Status.ENDED else [event],
        cause=cause,
    )
    return True


async def _locked(tx: Tx, caller: Caller, session_id: UUID, attachment_id: UUID) -> tuple[sessions.Locked, File | None]:
    """The session and its file, both held; None instead of a file that has been deleted."""
    locked = await sessions.lock(tx, caller, session_id)
    if locked is None:
        raise SessionNotFound
    file = await store.get_locked(tx, session_id, attachment_id)
    if file is None:
        raise AttachmentNotFound
    is_deleted = file.attachment.deleted_at is not msgspec.UNSET
    return locked, None if is_deleted else file


def attachment_event(attachment: Attachment, type_: EventType, **details: object) -> NewEvent:
    """The event that tells what a file has become: thin, without its name and its content."""
    return NewEvent(
        id=new_id(),
        type=type_,
        data={
            "attachment_id": attachment.id,
            "status": attachment.status,
            "content_type": attachment.content_type,
            "size": attachment.size,
            **details,
        },
    )
