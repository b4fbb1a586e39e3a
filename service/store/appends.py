"""Appending messages: one statement, guarded, under numbers without gap."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from service.domain.caller import Caller
from service.domain.event import Cause
from service.domain.message import Message, MessageDraft, Role
from service.store.engine import Row, Statement, Tx, written_out
from service.store.events import cause_parameters
from service.store.expiry import expires_after

TARGET = """
        UPDATE sessions SET
            message_count = message_count + {count},
            version = version + 1,
            last_message_seq = last_message_seq + {count},
            last_event_seq = last_event_seq + {count},
            updated_at = greatest(statement_timestamp(), updated_at),
            last_message_at = greatest(statement_timestamp(), updated_at),
            expires_at = {expires_at}
        WHERE id = :session_id AND tenant_id = :tenant_id
          AND (CAST(:user_id AS text) IS NULL OR user_id = CAST(:user_id AS text))
          AND status = 'active' AND expires_at > clock_timestamp()
          AND message_count + {count} <= max_messages
          AND {parents}
        RETURNING tenant_id, id, updated_at, message_count, version, expires_at,
                  last_message_seq - {count} AS message_seq, last_event_seq - {count} AS event_seq"""
"""Takes the next numbers of a session, if the caller may see it and its state, time and limit allow it."""

EXPIRES_AT = expires_after("greatest(statement_timestamp(), updated_at)", "timeout_minutes")

TARGET_OF_ONE = TARGET.format(
    expires_at=EXPIRES_AT,
    count="1",
    parents="""(CAST(:parent_id AS uuid) IS NULL OR EXISTS (
              SELECT FROM messages
              WHERE messages.session_id = :session_id AND messages.id = CAST(:parent_id AS uuid)))""",
)

TARGET_OF_MANY = TARGET.format(
    expires_at=EXPIRES_AT,
    count="cardinality(CAST(:ids AS uuid[]))",
    parents="""NOT EXISTS (
              SELECT FROM draft WHERE draft.parent_id IS NOT NULL AND NOT EXISTS (
                  SELECT FROM messages WHERE messages.session_id = :session_id AND messages.id = draft.parent_id))""",
)

APPEND_ONE = Statement(
    sa.text(f"""
    WITH target AS ({TARGET_OF_ONE}),
    spoken AS (
        INSERT INTO messages (tenant_id, session_id, seq, id, role, content, metadata, usage, parent_id, created_at,
                              tool_call_id, tool_call_count, attachment_ids, size)
        SELECT tenant_id, id, message_seq + 1, :message_id, :role, CAST(:content AS json), CAST(:metadata AS json),
               CAST(:usage AS json), CAST(:parent_id AS uuid), updated_at, CAST(:tool_call_id AS uuid),
               :tool_call_count, CAST(:attachment_ids AS uuid[]), :size
        FROM target
    ),
    told AS (
        INSERT INTO events
            (tenant_id, session_id, seq, id, type, occurred_at, actor_kind, actor_subject, request_id, data)
        SELECT tenant_id, id, event_seq + 1, :event_id, 'message.created', updated_at,
               :actor_kind, :actor_subject, :request_id,
               CAST('{{"message_id":"' || CAST(:message_id AS uuid) || '","message_seq":' || message_seq + 1
                    || ',"role":"' || CAST(:role AS text) || '"}}' AS json)
        FROM target
    ),
    queued AS (
        INSERT INTO outbox (tenant_id, session_id, event_seq, event_type, recorded_at)
        SELECT tenant_id, id, event_seq + 1, 'message.created', updated_at FROM target
    )
    SELECT message_seq, updated_at, event_seq, message_count, version, expires_at FROM target
    """)  # noqa: S608 - built from constants of this module alone
)
"""Counter, message, event and outbox in one round trip and one commit, guarded by visibility, state, time and limit.

The number of a message is taken under the session's row lock, which is held until the commit: so the order of the
numbers is the order of the commits, without gap. When the guard refuses, nothing is returned and nothing is written.
"""

APPEND_MANY = Statement(
    sa.text(f"""
    WITH draft AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:roles AS text[]), CAST(:contents AS json[]), CAST(:metadatas AS json[]),
            CAST(:usages AS json[]), CAST(:parent_ids AS uuid[]), CAST(:event_ids AS uuid[]),
            CAST(:sizes AS integer[])
        ) WITH ORDINALITY AS draft (id, role, content, metadata, usage, parent_id, event_id, size, n)
    ),
    target AS ({TARGET_OF_MANY}),
    spoken AS (
        INSERT INTO messages (tenant_id, session_id, seq, id, role, content, metadata, usage, parent_id, created_at,
                              size)
        SELECT target.tenant_id, target.id, target.message_seq + draft.n, draft.id, draft.role, draft.content,
               draft.metadata, draft.usage, draft.parent_id, target.updated_at, draft.size
        FROM target, draft
    ),
    told AS (
        INSERT INTO events
            (tenant_id, session_id, seq, id, type, occurred_at, actor_kind, actor_subject, request_id, data)
        SELECT target.tenant_id, target.id, target.event_seq + draft.n, draft.event_id, 'message.created',
               target.updated_at, :actor_kind, :actor_subject, :request_id,
               CAST('{{"message_id":"' || draft.id || '","message_seq":' || target.message_seq + draft.n
                    || ',"role":"' || draft.role || '"}}' AS json)
        FROM target, draft
    ),
    queued AS (
        INSERT INTO outbox (tenant_id, session_id, event_seq, event_type, recorded_at)
        SELECT target.tenant_id, target.id, target.event_seq + draft.n, 'message.created', target.updated_at
        FROM target, draft ORDER BY draft.n
    )
    SELECT message_seq, updated_at FROM target
    """)  # noqa: S608 - built from constants of this module alone
)
"""The same for a batch, under consecutive numbers. Unpacking its arrays costs PostgreSQL a third more CPU than

`APPEND_ONE` takes (measured: 0.30 against 0.23 ms), which is why one message has a statement of its own.
"""

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
    """A draft with the ids that it and its event will carry, of the call that it completes, and of its files."""

    id: UUID
    event_id: UUID
    draft: MessageDraft
    tool_call_id: UUID | None = None
    attachment_ids: list[UUID] = []


class Moved(msgspec.Struct, frozen=True):
    """What a single message moved in its session: from which event to which, and what is shown of it."""

    seq_before: int
    seq_after: int
    message_count: int
    version: int
    moment: datetime
    expires_at: datetime


async def append(
    tx: Tx,
    caller: Caller,
    session_id: UUID,
    messages: list[NewMessage],
    cause: Cause,
    on_moved: Callable[[Moved], object] | None = None,
) -> list[Message] | None:
    """Append all of `messages` or none, under consecutive numbers; None when the guard refuses.

    `on_moved` is told what a single one has moved.
    """
    written = [_written(message) for message in messages]
    row = await (_append_one if len(written) == 1 else _append_many)(tx, caller, session_id, written, cause)
    if row is None:
        return None
    seq, created_at = row[0], row[1]
    if on_moved is not None and len(written) == 1:
        _, moment, event_seq, message_count, version, expires_at = row
        on_moved(Moved(event_seq, event_seq + 1, message_count, version, written_out(moment), written_out(expires_at)))
    return [_appended(one, session_id, seq + place, created_at) for place, one in enumerate(written, start=1)]


class _Written(msgspec.Struct, frozen=True):
    """A new message with its payloads as the JSON text that is stored and answered."""

    id: UUID
    event_id: UUID
    role: Role
    parent_id: UUID | None
    tool_call_id: UUID | None
    tool_call_count: int
    attachment_ids: list[UUID] | None
    content: str
    metadata: str
    usage: str | None
    size: int


def _written(message: NewMessage) -> _Written:
    draft = message.draft
    content = msgspec.json.encode(draft.content)
    metadata = msgspec.json.encode(draft.metadata) if draft.metadata else b"{}"
    usage = b"" if draft.usage is None else msgspec.json.encode(draft.usage)
    return _Written(
        message.id,
        message.event_id,
        draft.role,
        draft.parent_id,
        message.tool_call_id,
        len(draft.tool_calls),
        message.attachment_ids or None,
        content.decode(),
        metadata.decode(),
        usage.decode() or None,
        len(content) + len(metadata) + len(usage),
    )


async def _append_one(tx: Tx, caller: Caller, session_id: UUID, messages: list[_Written], cause: Cause) -> Row | None:
    message = messages[0]
    return await tx.row(
        APPEND_ONE,
        session_id=session_id,
        tenant_id=caller.tenant_id,
        user_id=caller.sees_user,
        message_id=message.id,
        event_id=message.event_id,
        role=message.role,
        content=message.content,
        metadata=message.metadata,
        usage=message.usage,
        parent_id=message.parent_id,
        tool_call_id=message.tool_call_id,
        tool_call_count=message.tool_call_count,
        attachment_ids=message.attachment_ids,
        size=message.size,
        **cause_parameters(cause),
    )


async def _append_many(tx: Tx, caller: Caller, session_id: UUID, messages: list[_Written], cause: Cause) -> Row | None:
    return await tx.row(
        APPEND_MANY,
        session_id=session_id,
        tenant_id=caller.tenant_id,
        user_id=caller.sees_user,
        ids=[message.id for message in messages],
        event_ids=[message.event_id for message in messages],
        roles=[message.role for message in messages],
        contents=[message.content for message in messages],
        metadatas=[message.metadata for message in messages],
        usages=[message.usage for message in messages],
        parent_ids=[message.parent_id for message in messages],
        sizes=[message.size for message in messages],
        **cause_parameters(cause),
    )


def _appended(message: _Written, session_id: UUID, seq: int, created_at: datetime) -> Message:
    return Message(
        message.id,
        session_id,
        seq,
        message.role,
        msgspec.Raw(message.content),
        [],
        [],
        None if message.tool_call_id is None else str(message.tool_call_id),
        message.parent_id,
        msgspec.Raw(message.metadata),
        None if message.usage is None else msgspec.Raw(message.usage),
        written_out(created_at),
    )


async def missing_parent(tx: Tx, session_id: UUID, messages: list[NewMessage]) -> int | None:
    """The place of the first draft whose parent is not a message of this session; None when all are."""
    parent_ids = [message.draft.parent_id for message in messages]
    place: int | None = await tx.value(MISSING_PARENT, session_id=session_id, parent_ids=parent_ids)
    return place
