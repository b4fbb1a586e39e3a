"""Attachments in PostgreSQL: add, read, list, refer to, retry, erase. Their processing is in `inspections.py`."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.dialects import postgresql as pg

from service.domain.attachment import Attachment, AttachmentStatus, AttachmentType
from service.domain.caller import Caller
from service.store.blobs import Stored
from service.store.engine import Row, Statement, Tx, written_out, written_out_if_any
from service.store.session_rows import VISIBLE_SESSION
from service.store.tables import Id

COLUMNS = """a.id, a.session_id, a.message_id, a.filename, a.content_type, a.declared_content_type, a.size, a.sha256,
    a.attachment_type, a.status, a.error, a.properties, a.metadata, a.text_sha256, a.thumbnail_sha256, a.scanned_at,
    a.uploaded_at, a.processed_at, a.deleted_at"""

ADD = Statement(
    sa.text(f"""
    INSERT INTO attachments AS a (
        tenant_id, session_id, id, filename, content_type, declared_content_type, size, sha256, attachment_type,
        status, properties, metadata, uploaded_at, due_at, attempt_count, lease_token)
    VALUES (:tenant_id, :session_id, :id, :filename, :content_type, :content_type, :size, :sha256, 'other',
            'uploaded', '{{}}', CAST(:metadata AS json), :moment, :moment, 0, 0)
    RETURNING {COLUMNS}
    """)  # noqa: S608 - built from constants of this module alone
)

GET = Statement(
    sa.text(f"""
    SELECT {COLUMNS}
    FROM sessions s LEFT JOIN attachments a ON a.session_id = s.id AND a.id = :attachment_id AND a.deleted_at IS NULL
    WHERE {VISIBLE_SESSION}
    """)  # noqa: S608 - as above
)

GET_LOCKED = Statement(
    sa.text(f"""
    SELECT {COLUMNS} FROM attachments a WHERE a.session_id = :session_id AND a.id = :attachment_id FOR UPDATE
    """).bindparams(sa.bindparam("session_id", type_=Id), sa.bindparam("attachment_id", type_=Id))  # noqa: S608
)

PAGE = Statement(
    sa.text(f"""
    SELECT found.* FROM sessions s
    LEFT JOIN LATERAL (
        SELECT {COLUMNS} FROM attachments a
        WHERE a.session_id = s.id AND a.id > CAST(:after_id AS uuid) AND a.deleted_at IS NULL
        ORDER BY a.id LIMIT :limit
    ) found ON true
    WHERE {VISIBLE_SESSION}
    ORDER BY found.id
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))  # noqa: S608 - as above
)

BY_IDS = Statement(
    sa.text(f"""
    SELECT {COLUMNS} FROM attachments a WHERE a.session_id = :session_id AND a.id = ANY (:ids)
    """).bindparams(sa.bindparam("session_id", type_=Id), sa.bindparam("ids", type_=pg.ARRAY(Id)))  # noqa: S608
)

NAMES_BY_IDS = Statement(
    sa.text(f"""
    SELECT {COLUMNS.replace("a.properties, a.metadata", "'{}' AS properties, '{}' AS metadata")}
    FROM attachments a WHERE a.session_id = :session_id AND a.id = ANY (:ids)
    """).bindparams(sa.bindparam("session_id", type_=Id), sa.bindparam("ids", type_=pg.ARRAY(Id)))  # noqa: S608
)

TEXTS = Statement(
    sa.text("""
    SELECT a.id, a.text_sha256, b.key, b.size
    FROM attachments a JOIN blobs b ON b.tenant_id = a.tenant_id AND b.sha256 = a.text_sha256
    WHERE a.session_id = :session_id AND a.id = ANY (:ids) AND a.deleted_at IS NULL
    """).bindparams(sa.bindparam("session_id", type_=Id), sa.bindparam("ids", type_=pg.ARRAY(Id)))
)

REFER = Statement(
    sa.text("""
    UPDATE attachments SET message_id = :message_id
    WHERE session_id = :session_id AND id = ANY (:ids) AND message_id IS NULL
    """).bindparams(sa.bindparam("ids", type_=pg.ARRAY(Id)))
)

FORGET_MESSAGE = Statement(
    sa.text("""
    UPDATE attachments a SET message_id = (
        SELECT m.id FROM messages m
        WHERE m.session_id = a.session_id AND a.id = ANY (m.attachment_ids) AND m.deleted_at IS NULL
          AND m.id <> :message_id
        ORDER BY m.seq LIMIT 1)
    WHERE a.session_id = :session_id AND a.message_id = :message_id
    """)
)

RETRY = Statement(
    sa.text(f"""
    UPDATE attachments AS a SET status = 'uploaded', error = NULL, properties = '{{}}', processed_at = NULL,
           due_at = :moment, attempt_count = 0, lease_token = a.lease_token + 1
    WHERE a.session_id = :session_id AND a.id = :attachment_id
    RETURNING {COLUMNS}
    """)  # noqa: S608 - as above
)

ERASE = Statement(
    sa.text("""
    UPDATE attachments SET filename = '', sha256 = '', properties = '{}', metadata = '{}', error = NULL,
           text_sha256 = NULL, thumbnail_sha256 = NULL, lease_token = lease_token + 1, deleted_at = :moment
    WHERE session_id = :session_id AND id = :attachment_id
    """)
)

DIGESTS = Statement(
    sa.text("""
    SELECT d.sha256 FROM attachments a, unnest(ARRAY[a.sha256, a.text_sha256, a.thumbnail_sha256]) AS d (sha256)
    WHERE a.session_id = :session_id AND a.deleted_at IS NULL AND d.sha256 IS NOT NULL
    """).bindparams(sa.bindparam("session_id", type_=Id))
)

STATUSES = {status.value: status for status in AttachmentStatus}
TYPES = {type_.value: type_ for type_ in AttachmentType}


class NewAttachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose bytes are stored; `content_type` is what the uploader said."""

    filename: str
    content_type: str
    size: int
    sha256: bytes
    metadata: dict[str, Any]


class File(msgspec.Struct, frozen=True):
    """An attachment with what its callers do not see: where its bytes, its text and its thumbnail are."""

    attachment: Attachment
    sha256: bytes
    text_sha256: bytes | None
    thumbnail_sha256: bytes | None
    is_scanned: bool

    @property
    def digests(self) -> list[bytes]:
        """Every blob that it refers to."""
        return [digest for digest in (self.sha256, self.text_sha256, self.thumbnail_sha256) if digest]


async def add(tx: Tx, tenant_id: str, session_id: UUID, id_: UUID, new: NewAttachment, moment: datetime) -> Attachment:
    """Store a new file's row, under its session's lock; it waits to be processed from now on."""
    row = await tx.row(
        ADD,
        tenant_id=tenant_id,
        session_id=session_id,
        id=id_,
        filename=new.filename,
        content_type=new.content_type,
        size=new.size,
        sha256=new.sha256,
        metadata=msgspec.json.encode(new.metadata).decode(),
        moment=moment,
    )
    if row is None:
        raise LookupError("an inserted row has to come back")
    return attachment_of(row)


async def get(tx: Tx, caller: Caller, session_id: UUID, attachment_id: UUID) -> tuple[bool, File | None]:
    """Whether the caller may see the session, and the file if it is there and not deleted."""
    row = await tx.row(
        GET,
        session_id=session_id,
        tenant_id=caller.tenant_id,
        user_id=caller.sees_user,
        attachment_id=attachment_id,
    )
    if row is None:
        return False, None
    return True, None if row["id"] is None else file_of(row)


async def get_locked(tx: Tx, session_id: UUID, attachment_id: UUID) -> File | None:
    """The file of a locked session, a deleted one too, held until the transaction ends."""
    row = await tx.row(GET_LOCKED, session_id=session_id, attachment_id=attachment_id)
    return None if row is None else file_of(row)


async def page(tx: Tx, caller: Caller, session_id: UUID, *, after_id: UUID, limit: int) -> list[Attachment] | None:
    """At most `limit` files behind `after_id`, oldest first; None: the caller may see no such session."""
    rows = await tx.rows(
        PAGE,
        session_id=session_id,
        tenant_id=caller.tenant_id,
        user_id=caller.sees_user,
        after_id=after_id,
        limit=limit,
    )
    if not rows:
        return None
    return [attachment_of(row) for row in rows if row["id"] is not None]


async def by_ids(tx: Tx, session_id: UUID, ids: list[UUID]) -> dict[UUID, Attachment]:
    """Those of a session's files that have one of these ids, deleted ones too."""
    rows = await tx.rows(BY_IDS, session_id=session_id, ids=ids)
    return {row["id"]: attachment_of(row) for row in rows}


async def names_by_ids(tx: Tx, session_id: UUID, ids: list[UUID]) -> dict[UUID, Attachment]:
    """The same without their metadata and properties, which may be 20 KiB for each: for who shows names alone."""
    rows = await tx.rows(NAMES_BY_IDS, session_id=session_id, ids=ids)
    return {row["id"]: attachment_of(row) for row in rows}


async def texts_of(tx: Tx, session_id: UUID, ids: list[UUID]) -> dict[UUID, Stored]:
    """Where the texts of those among these files are that have one."""
    rows = await tx.rows(TEXTS, session_id=session_id, ids=ids)
    return {row["id"]: Stored(row["text_sha256"], row["key"], row["size"]) for row in rows}


async def refer(tx: Tx, session_id: UUID, message_id: UUID, ids: list[UUID]) -> None:
    """Record the first message that refers to each of these files."""
    await tx.rows(REFER, session_id=session_id, message_id=message_id, ids=ids)


async def forget_message(tx: Tx, session_id: UUID, message_id: UUID) -> None:
    """Let the files of this message, which is deleted, name the next one that refers to them, or none."""
    await tx.rows(FORGET_MESSAGE, session_id=session_id, message_id=message_id)


async def retry(tx: Tx, session_id: UUID, attachment_id: UUID, moment: datetime) -> Attachment:
    """Let a failed file of a locked session start over."""
    row = await tx.row(RETRY, session_id=session_id, attachment_id=attachment_id, moment=moment)
    if row is None:
        raise LookupError("the locked session's file is gone")
    return attachment_of(row)


async def erase(tx: Tx, session_id: UUID, attachment_id: UUID, moment: datetime) -> None:
    """Take everything of a file away but that there was one."""
    await tx.rows(ERASE, session_id=session_id, attachment_id=attachment_id, moment=moment)


async def digests(tx: Tx, session_id: UUID) -> list[bytes]:
    """Every reference of a session's files to a blob."""
    return [row["sha256"] for row in await tx.rows(DIGESTS, session_id=session_id)]


def file_of(row: Row) -> File:
    """The file that a row of `COLUMNS` is."""
    return File(
        attachment=attachment_of(row),
        sha256=row["sha256"],
        text_sha256=row["text_sha256"],
        thumbnail_sha256=row["thumbnail_sha256"],
        is_scanned=row["scanned_at"] is not None,
    )


def attachment_of(row: Row) -> Attachment:
    """The attachment that a row of `COLUMNS` is."""
    deleted_at = row["deleted_at"]
    return Attachment(
        id=row["id"],
        session_id=row["session_id"],
        message_id=row["message_id"],
        filename=row["filename"],
        content_type=row["content_type"],
        declared_content_type=row["declared_content_type"],
        size=row["size"],
        sha256=row["sha256"].hex(),
        attachment_type=TYPES[row["attachment_type"]],
        status=STATUSES[row["status"]],
        error=row["error"],
        properties=msgspec.Raw(row["properties"]),
        has_text=row["text_sha256"] is not None,
        has_thumbnail=row["thumbnail_sha256"] is not None,
        metadata=msgspec.Raw(row["metadata"]),
        uploaded_at=written_out(row["uploaded_at"]),
        processed_at=written_out_if_any(row["processed_at"]),
        deleted_at=UNSET if deleted_at is None else written_out(deleted_at),
    )
