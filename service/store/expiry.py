"""When a session's time is over, and sessions whose time is over: found, held, ended with one event each."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.event import Cause
from service.store.engine import Statement, Tx
from service.store.events import cause_parameters


def expires_after(moment: str, minutes: str) -> str:
    """SQL for the `expires_at` of a session that has all of its time again at `moment`: `minutes` later."""
    return f"{moment} + make_interval(mins => {minutes})"


LOCK_DUE = Statement(
    sa.text("""
    SELECT id, tenant_id, expires_at FROM sessions
    WHERE status <> 'ended' AND expires_at <= statement_timestamp() AND expires_minute <= statement_timestamp()
    ORDER BY expires_minute LIMIT :limit FOR UPDATE SKIP LOCKED
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))
)

EXPIRE = Statement(
    sa.text("""
    WITH due AS (
        SELECT * FROM unnest(CAST(:session_ids AS uuid[]), CAST(:event_ids AS uuid[])) AS due (id, event_id)
    ),
    target AS (
        UPDATE sessions SET
            status = 'ended', end_reason = 'expired', ended_at = expires_at, updated_at = expires_at,
            pending_tool_call_count = 0, version = version + 1, last_event_seq = last_event_seq + 1
        FROM due WHERE sessions.id = due.id
        RETURNING sessions.*, due.event_id
    ),
    told AS (
        INSERT INTO events
            (tenant_id, session_id, seq, id, type, occurred_at, actor_kind, actor_subject, request_id, data)
        SELECT tenant_id, id, last_event_seq, event_id, 'session.expired', updated_at,
               :actor_kind, :actor_subject, :request_id, '{"end_reason":"expired"}'
        FROM target
        RETURNING tenant_id, session_id, seq, type, occurred_at
    ),
    queued AS (
        INSERT INTO outbox (tenant_id, session_id, event_seq, event_type, recorded_at)
        SELECT tenant_id, session_id, seq, type, occurred_at FROM told
    )
    SELECT count(*) FROM target
    """)
)
"""Ends sessions that `LOCK_DUE` holds, each with one event."""


class Due(msgspec.Struct, frozen=True):
    """A session whose time is over."""

    id: UUID
    tenant_id: str
    expires_at: datetime


async def lock_due(tx: Tx, limit: int) -> list[Due]:
    """Hold at most `limit` sessions whose time is over and that nobody else holds."""
    return [Due(row["id"], row["tenant_id"], row["expires_at"]) for row in await tx.rows(LOCK_DUE, limit=limit)]


async def expire(tx: Tx, session_ids: list[UUID], event_ids: list[UUID], cause: Cause) -> int:
    """End sessions that `lock_due` holds, each with one event; how many."""
    return int(await tx.value(EXPIRE, session_ids=session_ids, event_ids=event_ids, **cause_parameters(cause)))
