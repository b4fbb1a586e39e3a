"""Messages in PostgreSQL: read, erase. They are appended in `appends.py` and listed in `message_pages.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.dialects import postgresql as pg

from service.domain.attachment import Attachment
from service.domain.caller import Caller
from service.domain.message import Message, Role
from service.store import attachments, tool_calls
from service.store.engine import Row, Statement, Tx, written_out
from service.store.session_rows import VISIBLE_SESSION

ROLES = {role.value: role for role in Role}
EMPTY_OBJECT = msgspec.Raw(b"{}")
NULL = msgspec.Raw(b"null")

COLUMNS = """m.id, m.session_id, m.seq, m.role, m.content, m.parent_id, m.metadata, m.usage, m.created_at, m.deleted_at,
    m.tool_call_id, m.tool_call_count, m.attachment_ids"""


NUMBERED = Statement(
    sa.text(f"""
    SELECT {COLUMNS}
    FROM sessions s
    LEFT JOIN messages m ON m.session_id = s.id AND m.seq = ANY (CAST(:seqs AS bigint[])) AND m.deleted_at IS NULL
    WHERE {VISIBLE_SESSION}
    ORDER BY m.seq DESC
    """).bindparams(sa.bindparam("seqs", type_=pg.ARRAY(sa.BigInteger)))  # noqa: S608 - as above
)

GET = Statement(
    sa.text(f"""
    SELECT {COLUMNS}
    FROM sessions s LEFT JOIN messages m ON m.session_id = s.id AND m.id = :message_id
    WHERE {VISIBLE_SESSION}
    """)  # noqa: S608 - built from constants of this module alone
)

ERASE = Statement(
    sa.text("""
    UPDATE messages SET
        content = NULL, metadata = '{}', usage = NULL, attachment_ids = NULL, size = NULL, deleted_at = :moment
    WHERE session_id = :session_id AND id = :message_id AND tenant_id = :tenant_id AND deleted_at IS NULL
    RETURNING seq
    """)
)


async def numbered(tx: Tx, caller: Caller, session_id: UUID, seqs: list[int]) -> list[Message] | None:
    """The messages of these numbers, newest first, without tombstones; None when the caller may see no such session.

    Their files are without metadata and properties.
    """
    rows = await tx.rows(
        NUMBERED, session_id=session_id, tenant_id=caller.tenant_id, user_id=caller.sees_user, seqs=seqs
    )
    if not rows:
        return None
    return await whole(tx, session_id, [row for row in rows if row[0] is not None], read_files=attachments.names_by_ids)


async def get(tx: Tx, caller: Caller, session_id: UUID, message_id: UUID) -> tuple[bool, Message | None]:
    """Whether the caller may see the session, and the message (a tombstone too) if it is there."""
    row = await tx.row(
        GET, session_id=session_id, tenant_id=caller.tenant_id, user_id=caller.sees_user, message_id=message_id
    )
    if row is None:
        return False, None
    if row["id"] is None:
        return True, None
    (message,) = await whole(tx, session_id, [row])
    return True, message


ReadFiles = Callable[[Tx, UUID, list[UUID]], Awaitable[dict[UUID, Attachment]]]


async def whole(
    tx: Tx, session_id: UUID, rows: list[Row], *, read_files: ReadFiles = attachments.by_ids
) -> list[Message]:
    """The messages that rows beginning with `COLUMNS` are, with their calls and files.

    One more statement for each sort, only where there are any.
    """
    messages = [message_of(row) for row in rows]
    messages = await _with_calls(tx, session_id, messages, [row["id"] for row in rows if row["tool_call_count"]])
    references = {row["id"]: row["attachment_ids"] for row in rows if row["attachment_ids"]}
    return await _with_files(tx, session_id, messages, references, read_files)


async def _with_files(
    tx: Tx, session_id: UUID, messages: list[Message], references: dict[UUID, list[UUID]], read_files: ReadFiles
) -> list[Message]:
    if not references:
        return messages
    found = await read_files(tx, session_id, [id_ for ids in references.values() for id_ in ids])
    return [
        msgspec.structs.replace(message, attachments=[found[id_] for id_ in references[message.id] if id_ in found])
        if message.id in references
        else message
        for message in messages
    ]


async def _with_calls(tx: Tx, session_id: UUID, messages: list[Message], bringers: list[UUID]) -> list[Message]:
    if not bringers:
        return messages
    calls = await tool_calls.of_messages(tx, session_id, bringers)
    return [
        msgspec.structs.replace(message, tool_calls=calls[message.id]) if message.id in calls else message
        for message in messages
    ]


async def erase(tx: Tx, caller: Caller, session_id: UUID, message_id: UUID, moment: datetime) -> int | None:
    """Take a message's content away and leave its tombstone; its number, or None when there was no content to take."""
    seq: int | None = await tx.value(
        ERASE, session_id=session_id, message_id=message_id, tenant_id=caller.tenant_id, moment=moment
    )
    return seq


def message_of(row: Row) -> Message:
    """The message that a row beginning with `COLUMNS` is, without its calls and files."""
    usage: Any
    (id_, session_id, seq, role, content, parent_id, metadata, usage, created_at, deleted_at, tool_call_id, *_) = row
    return Message(
        id_,
        session_id,
        seq,
        ROLES[role],
        NULL if content is None else msgspec.Raw(content),
        [],
        [],
        None if tool_call_id is None else str(tool_call_id),
        parent_id,
        EMPTY_OBJECT if metadata == "{}" else msgspec.Raw(metadata),
        None if usage is None else msgspec.Raw(usage),
        written_out(created_at),
        UNSET if deleted_at is None else written_out(deleted_at),
    )
