"""Sessions in PostgreSQL: open, read, lock, save, erase."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.caller import Caller
from service.domain.event import Cause, NewEvent
from service.domain.session import Session, SessionConfig, Status
from service.store.engine import Statement, Tx
from service.store.events import RECORD, record_parameters
from service.store.expiry import expires_after
from service.store.session_rows import COLUMNS, EFFECTIVE_STATUS, VISIBLE, columns_at, session_of
from service.store.tables import Id, Time
from service.store.tables import sessions as s

STORED = ", ".join(f"target.{column.name}" for column in COLUMNS)

BY_ID = sa.and_(s.c.id == sa.bindparam("session_id", type_=Id), VISIBLE)

GET = Statement(sa.select(*COLUMNS).where(BY_ID))
GET_LIVING = Statement(
    sa.select(*COLUMNS)
    .where(
        s.c.tenant_id == sa.bindparam("tenant_id", type_=sa.Text),
        s.c.user_id == sa.bindparam("user_id", type_=sa.Text),
        s.c.external_id == sa.bindparam("external_id", type_=sa.Text),
        s.c.status != "ended",
        EFFECTIVE_STATUS != "ended",
    )
    .with_for_update(read=True, key_share=True)
)
"""Holds the row against a purge only: the answer may be kept, and what is kept of an erased session must be erased."""

HELD = sa.select(s).where(BY_ID).with_for_update().cte("held")
HELD_AT = sa.select(HELD, sa.func.clock_timestamp(type_=Time).label("clock")).cte("held_at")
LOCK = Statement(
    sa.select(
        *columns_at(HELD_AT, HELD_AT.c.clock), sa.func.greatest(HELD_AT.c.clock, HELD_AT.c.updated_at).label("now")
    )
)
"""The clock is read once the lock is held: who waited for it decides by the time after the wait, not before."""

ADD = Statement(
    sa.text(f"""
    WITH target AS (
        INSERT INTO sessions (
            id, tenant_id, user_id, agent_id, status, title, external_id, config, metadata, tags,
            message_count, attachment_count, pending_tool_call_count, version, last_message_seq, last_event_seq,
            created_at, updated_at, last_message_at, expires_at, size)
        SELECT :session_id, :tenant_id, :user_id, :agent_id, :status, :title, :external_id, CAST(:config AS jsonb),
               CAST(:metadata AS json), CAST(:tags AS text[]),
               spoken.count, 0, 0, 1, spoken.count, cardinality(CAST(:event_ids AS uuid[])),
               statement_timestamp(), statement_timestamp(), CASE WHEN spoken.count > 0 THEN statement_timestamp() END,
               {expires_after("statement_timestamp()", ":timeout_minutes")}, :size
        FROM (SELECT CASE WHEN CAST(:message_id AS uuid) IS NULL THEN 0 ELSE 1 END AS count) spoken
        ON CONFLICT (tenant_id, user_id, external_id) WHERE external_id IS NOT NULL AND status <> 'ended' DO NOTHING
        RETURNING *
    ),
    prompted AS (
        INSERT INTO messages (tenant_id, session_id, seq, id, role, content, metadata, created_at, size)
        SELECT tenant_id, id, 1, CAST(:message_id AS uuid), 'system', CAST(:system_prompt AS json), '{{}}', created_at,
               octet_length(CAST(CAST(:system_prompt AS json) AS text))
        FROM target WHERE CAST(:message_id AS uuid) IS NOT NULL
    ),
    {RECORD}
    SELECT {STORED} FROM target
    """)  # noqa: S608 - built from constants of this module alone
)

SAVE = Statement(
    sa.text(f"""
    WITH target AS (
        UPDATE sessions SET
            status = :status, title = :title, config = CAST(:config AS jsonb), metadata = CAST(:metadata AS json),
            tags = CAST(:tags AS text[]), message_count = :message_count,
            pending_tool_call_count = :pending_tool_call_count,
            version = version + 1, last_event_seq = last_event_seq + cardinality(CAST(:event_ids AS uuid[])),
            updated_at = :moment,
            expires_at = CASE WHEN CAST(:renew AS boolean)
                THEN {expires_after("CAST(:moment AS timestamptz)", ":timeout_minutes")}
                ELSE expires_at END,
            ended_at = :ended_at, end_reason = :end_reason, size = :size
        WHERE id = :session_id AND tenant_id = :tenant_id
        RETURNING *
    ),
    {RECORD}
    SELECT {STORED} FROM target
    """)  # noqa: S608 - built from constants of this module alone
)

RECORD_CHILDREN = Statement(
    sa.text(f"""
    WITH target AS (
        UPDATE sessions SET
            version = version + CAST(:versions AS bigint), updated_at = :moment,
            last_event_seq = last_event_seq + cardinality(CAST(:event_ids AS uuid[])),
            pending_tool_call_count = pending_tool_call_count + CAST(:pending AS integer),
            attachment_count = attachment_count + CAST(:attachments AS integer),
            expires_at = CASE WHEN CAST(:renew AS boolean)
                THEN {expires_after("CAST(:moment AS timestamptz)", "timeout_minutes")}
                ELSE expires_at END
        WHERE id = :session_id AND tenant_id = :tenant_id
        RETURNING *
    ),
    {RECORD}
    SELECT version FROM target
    """)  # noqa: S608 - built from constants of this module alone
)

ERASE = [
    Statement(sa.text(f"DELETE FROM {table} WHERE session_id = :session_id AND tenant_id = :tenant_id"))  # noqa: S608
    for table in (
        "messages",
        "tool_calls",
        "attachments",
        "events",
        "outbox",
        "event_positions",
        "stream_tickets",
        "webhook_deliveries",
    )
] + [Statement(sa.text("DELETE FROM sessions WHERE id = :session_id AND tenant_id = :tenant_id"))]


class NewSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session that is about to be stored, with its system prompt as message 1 where there is one."""

    id: UUID
    user_id: str
    agent_id: str
    status: Status
    title: str | None
    external_id: str | None
    config: SessionConfig
    metadata: dict[str, Any]
    tags: list[str]
    system_prompt: str | None
    message_id: UUID | None


class Locked(msgspec.Struct, frozen=True):
    """A session whose row this transaction holds, and the moment at which its change happens."""

    session: Session
    moment: datetime


async def add(tx: Tx, tenant_id: str, new: NewSession, events: list[NewEvent], cause: Cause) -> Session | None:
    """Store a new session with its events; None when a session of its user bears its `external_id`."""
    config, metadata = msgspec.json.encode(new.config), msgspec.json.encode(new.metadata)
    row = await tx.row(
        ADD,
        session_id=new.id,
        tenant_id=tenant_id,
        user_id=new.user_id,
        agent_id=new.agent_id,
        status=new.status,
        title=new.title,
        external_id=new.external_id,
        config=config.decode(),
        metadata=metadata.decode(),
        tags=new.tags,
        size=_size(new, config, metadata),
        timeout_minutes=new.config.timeout_minutes,
        message_id=new.message_id,
        system_prompt=None if new.system_prompt is None else msgspec.json.encode(new.system_prompt).decode(),
        **record_parameters(events, cause),
    )
    return None if row is None else session_of(row)


def _size(session: NewSession | Session, config: bytes, metadata: bytes) -> int:
    """The bytes of what callers gave to a session, as JSON."""
    named = (session.user_id, session.agent_id, session.title, session.external_id, session.tags)
    return len(config) + len(metadata) + len(msgspec.json.encode(named))


async def get(tx: Tx, caller: Caller, session_id: UUID) -> Session | None:
    """The session as it is now, if the caller may see it."""
    row = await tx.row(GET, session_id=session_id, tenant_id=caller.tenant_id, user_id=caller.sees_user)
    return None if row is None else session_of(row)


async def get_living(tx: Tx, tenant_id: str, user_id: str, external_id: str) -> Session | None:
    """The session of `user_id` that bears `external_id` and has not ended."""
    row = await tx.row(GET_LIVING, external_id=external_id, tenant_id=tenant_id, user_id=user_id)
    return None if row is None else session_of(row)


async def lock(tx: Tx, caller: Caller, session_id: UUID) -> Locked | None:
    """Hold the session's row until the transaction ends, and say when its change happens."""
    row = await tx.row(LOCK, session_id=session_id, tenant_id=caller.tenant_id, user_id=caller.sees_user)
    return None if row is None else Locked(session=session_of(row), moment=row["now"])


async def save(
    tx: Tx,
    tenant_id: str,
    session: Session,
    *,
    moment: datetime,
    renew: bool,
    events: list[NewEvent],
    cause: Cause,
) -> Session:
    """Store what a locked session has become, with its events; `renew` gives it its full time again."""
    config, metadata = msgspec.json.encode(session.config), bytes(session.metadata)
    row = await tx.row(
        SAVE,
        session_id=session.id,
        tenant_id=tenant_id,
        status=session.status,
        title=session.title,
        config=config.decode(),
        metadata=metadata.decode(),
        tags=session.tags,
        size=_size(session, config, metadata),
        message_count=session.message_count,
        pending_tool_call_count=session.pending_tool_call_count,
        moment=moment,
        renew=renew,
        timeout_minutes=session.config.timeout_minutes,
        ended_at=session.ended_at,
        end_reason=session.end_reason,
        **record_parameters(events, cause),
    )
    if row is None:
        raise LookupError("the locked session's row is gone")
    return session_of(row)


async def record_children(
    tx: Tx,
    tenant_id: str,
    session_id: UUID,
    *,
    moment: datetime,
    pending: int = 0,
    attachments: int = 0,
    versions: int = 1,
    renew: bool = False,
    events: list[NewEvent],
    cause: Cause,
) -> None:
    """Record what became of a locked session's tool calls and files.

    `pending`: how many more of the calls wait for a decision; `attachments`: how many more files there are; `renew`
    gives the session its full time again.
    """
    await tx.rows(
        RECORD_CHILDREN,
        session_id=session_id,
        tenant_id=tenant_id,
        moment=moment,
        pending=pending,
        attachments=attachments,
        versions=versions,
        renew=renew,
        **record_parameters(events, cause),
    )


async def erase(tx: Tx, tenant_id: str, session_id: UUID) -> None:
    """Delete a locked session and everything that belongs to it.

    The outbox before the positions: a relay that has rows of this session in hand is waited for, and what it has placed
    is seen by the next statement.
    """
    for statement in ERASE:
        await tx.rows(statement, session_id=session_id, tenant_id=tenant_id)
