"""Messages in PostgreSQL: append (one statement), page, read, erase."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from msgspec import UNSET
from sqlalchemy.dialects import postgresql as pg

from service.domain.caller import Caller
from service.domain.event import Cause
from service.domain.message import Message, MessageDraft, Role
from service.store.engine import Row, Statement, Tx
from service.store.events import cause_parameters

NULL = msgspec.Raw(b"null")

APPEND = Statement(
    sa.text("""
    WITH draft AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:roles AS text[]), CAST(:contents AS json[]), CAST(:metadatas AS json[]),
            CAST(:usages AS json[]), CAST(:parent_ids AS uuid[]), CAST(:event_ids AS uuid[])
        ) WITH ORDINALITY AS draft (id, role, content, metadata, usage, parent_id, event_id, n)
    ),
    target AS (
        UPDATE sessions SET
            message_count = message_count + :count,
            version = version + 1,
            last_message_seq = last_message_seq + :count,
            last_event_seq = last_event_seq + :count,
            updated_at = greatest(statement_timestamp(), updated_at),
            last_message_at = greatest(statement_timestamp(), updated_at),
            expires_at = greatest(statement_timestamp(), updated_at) + make_interval(mins => timeout_minutes)
        WHERE id = :session_id AND tenant_id = :tenant_id
          AND (CAST(:user_id AS text) IS NULL OR user_id = CAST(:user_id AS text))
          AND status = 'active' AND expires_at > statement_timestamp()
          AND message_count + :count <= max_messages
          AND NOT EXISTS (
              SELECT FROM draft WHERE draft.parent_id IS NOT NULL AND NOT EXISTS (
                  SELECT FROM messages WHERE messages.session_id = :session_id AND messages.id = draft.parent_id))
        RETURNING tenant_id, id, updated_at,
                  last_message_seq - :count AS message_seq, last_event_seq - :count AS event_seq
    ),
    spoken AS (
        INSERT INTO messages (tenant_id, session_id, seq, id, role, content, metadata, usage, parent_id, created_at)
        SELECT target.tenant_id, target.id, target.message_seq + draft.n, draft.id, draft.role, draft.content,
               draft.metadata, draft.usage, draft.parent_id, target.updated_at
        FROM target, draft
    ),
    told AS (
        INSERT INTO events
            (tenant_id, session_id, seq, id, type, occurred_at, actor_kind, actor_subject, request_id, data)
        SELECT target.tenant_id, target.id, target.event_seq + draft.n, draft.event_id, 'message.created',
               target.updated_at, :actor_kind, :actor_subject, :request_id,
               json_build_object(
                   'message_id', draft.id, 'message_seq', target.message_seq + draft.n, 'role', draft.role)
        FROM target, draft
    ),
    queued AS (
        INSERT INTO outbox (tenant_id, session_id, event_seq, event_type, recorded_at)
        SELECT target.tenant_id, target.id, target.event_seq + draft.n, 'message.created', target.updated_at
        FROM target, draft ORDER BY draft.n
    )
    SELECT message_seq, updated_at FROM target
    """).bindparams(sa.bindparam("count", type_=sa.Integer))
)
"""Counter, messages, events and outbox in one round trip and one commit, guarded by visibility, state, time and limit.

The number of a message is taken under the session's row lock, which is held until the commit: so the order of the
numbers is the order of the commits, without gap. When the guard refuses, nothing is returned and nothing is written.
"""

COLUMNS = (
    """m.id, m.session_id, m.seq, m.role, m.content, m.parent_id, m.metadata, m.usage, m.created_at, m.deleted_at"""
)

VISIBLE_SESSION = """s.id = :session_id AND s.tenant_id = :tenant_id
      AND (CAST(:user_id AS text) IS NULL OR s.user_id = CAST(:user_id AS text))"""


def _page_statement(order: str) -> Statement:
    return Statement(
        sa.text(f"""
    SELECT {COLUMNS}
    FROM sessions s
    LEFT JOIN LATERAL (
        SELECT * FROM messages
        WHERE messages.session_id = s.id AND messages.seq > :after_seq AND messages.seq < :before_seq
          AND (CAST(:role AS text) IS NULL OR messages.role = CAST(:role AS text))
          AND (CAST(:include_deleted AS boolean) OR messages.deleted_at IS NULL)
        ORDER BY messages.seq {order}
        LIMIT :limit
    ) m ON true
    WHERE {VISIBLE_SESSION}
    ORDER BY m.seq {order}
    """)  # noqa: S608 - built from constants of this module alone
    )


PAGES = {order: _page_statement(order) for order in ("asc", "desc")}

GET = Statement(
    sa.text(f"""
    SELECT {COLUMNS}
    FROM sessions s LEFT JOIN messages m ON m.session_id = s.id AND m.id = :message_id
    WHERE {VISIBLE_SESSION}
    """)  # noqa: S608 - built from constants of this module alone
)

ERASE = Statement(
    sa.text("""
    UPDATE messages SET content = NULL, metadata = '{}', usage = NULL, deleted_at = :moment
    WHERE session_id = :session_id AND id = :message_id AND tenant_id = :tenant_id AND deleted_at IS NULL
    RETURNING seq
    """)
)

MISSING_PARENT = Statement(
    sa.text("""
    SELECT wanted.n - 1 AS place
    FROM unnest(CAST(:parent_ids AS uuid[])) WITH ORDINALITY AS wanted (id, n)
    WHERE wanted.id IS NOT NULL AND NOT EXISTS (
        SELECT FROM messages WHERE messages.session_id = :session_id AND messages.id = wanted.id)
    ORDER BY wanted.n LIMIT 1
    """).bindparams(sa.bindparam("parent_ids", type_=pg.ARRAY(pg.UUID(as_uuid=True))))
)


class NewMessage(msgspec.Struct, frozen=True):
    """A draft with the ids that it and its event will carry."""

    id: UUID
    event_id: UUID
    draft: MessageDraft


async def append(
    tx: Tx, caller: Caller, session_id: UUID, messages: list[NewMessage], cause: Cause
) -> list[Message] | None:
    """Append all of `messages` or none, under consecutive numbers; None when the guard refuses."""
    drafts = [message.draft for message in messages]
    contents = [msgspec.json.encode(draft.content) for draft in drafts]
    metadatas = [msgspec.json.encode(draft.metadata) if draft.metadata else b"{}" for draft in drafts]
    usages = [None if draft.usage is None else msgspec.json.encode(draft.usage) for draft in drafts]
    row = await tx.row(
        APPEND,
        session_id=session_id,
        tenant_id=caller.tenant_id,
        user_id=caller.sees_user,
        count=len(messages),
        ids=[message.id for message in messages],
        roles=[draft.role for draft in drafts],
        contents=[content.decode() for content in contents],
        metadatas=[metadata.decode() for metadata in metadatas],
        usages=[None if usage is None else usage.decode() for usage in usages],
        parent_ids=[draft.parent_id for draft in drafts],
        event_ids=[message.event_id for message in messages],
        **cause_parameters(cause),
    )
    if row is None:
        return None
    seq, created_at = row["message_seq"], row["updated_at"]
    return [
        Message(
            id=message.id,
            session_id=session_id,
            seq=seq + place,
            role=message.draft.role,
            content=msgspec.Raw(content),
            attachments=[],
            tool_calls=[],
            tool_call_id=None,
            parent_id=message.draft.parent_id,
            metadata=msgspec.Raw(metadata),
            usage=None if usage is None else msgspec.Raw(usage),
            created_at=created_at,
        )
        for place, (message, content, metadata, usage) in enumerate(
            zip(messages, contents, metadatas, usages, strict=True), start=1
        )
    ]


async def missing_parent(tx: Tx, session_id: UUID, messages: list[NewMessage]) -> int | None:
    """The place of the first draft whose parent is not a message of this session; None when all are."""
    parent_ids = [message.draft.parent_id for message in messages]
    place: int | None = await tx.value(MISSING_PARENT, session_id=session_id, parent_ids=parent_ids)
    return place


async def page(
    tx: Tx,
    caller: Caller,
    session_id: UUID,
    *,
    order: str,
    after_seq: int,
    before_seq: int,
    role: Role | None,
    include_deleted: bool,
    limit: int,
) -> list[Message] | None:
    """At most `limit` messages between the two numbers (both excluded), read by primary key in `order`.

    None when the caller may see no such session.
    """
    rows = await tx.rows(
        PAGES[order],
        session_id=session_id,
        tenant_id=caller.tenant_id,
        user_id=caller.sees_user,
        after_seq=after_seq,
        before_seq=before_seq,
        role=role,
        include_deleted=include_deleted,
        limit=limit,
    )
    if not rows:
        return None
    return [_message(row) for row in rows if row[0] is not None]


async def get(tx: Tx, caller: Caller, session_id: UUID, message_id: UUID) -> tuple[bool, Message | None]:
    """Whether the caller may see the session, and the message (a tombstone too) if it is there."""
    row = await tx.row(
        GET, session_id=session_id, tenant_id=caller.tenant_id, user_id=caller.sees_user, message_id=message_id
    )
    if row is None:
        return False, None
    return True, None if row["id"] is None else _message(row)


async def erase(tx: Tx, caller: Caller, session_id: UUID, message_id: UUID, moment: datetime) -> int | None:
    """Take a message's content away and leave its tombstone; its number, or None when there was no content to take."""
    seq: int | None = await tx.value(
        ERASE, session_id=session_id, message_id=message_id, tenant_id=caller.tenant_id, moment=moment
    )
    return seq


def _message(row: Row) -> Message:
    usage: Any
    id_, session_id, seq, role, content, parent_id, metadata, usage, created_at, deleted_at = row
    return Message(
        id_,
        session_id,
        seq,
        Role(role),
        NULL if content is None else msgspec.Raw(content),
        [],
        [],
        None,
        parent_id,
        msgspec.Raw(metadata),
        None if usage is None else msgspec.Raw(usage),
        created_at,
        UNSET if deleted_at is None else deleted_at,
    )
