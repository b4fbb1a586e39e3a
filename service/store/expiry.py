"""When a session's time is over, and sessions whose time is over: found, held, ended with one event each."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.event import Cause
from service.store.engine import Statement, Tx
from service.store.events import cause_parameters

DUE = "status <> 'ended' AND expires_at <= statement_timestamp() AND expires_minute <= statement_timestamp()"

CROWD = 200
"""As many sessions that are due are looked at to see whose they are. Where there are more, every tenant is asked."""

DUE_TENANTS = Statement(
    sa.text(f"""
    WITH RECURSIVE soonest AS MATERIALIZED (
        SELECT tenant_id FROM sessions WHERE {DUE} ORDER BY expires_minute LIMIT :crowd
    ), living (tenant_id) AS (
        -- Every tenant with a session that has not ended, one step of the index each.
        (SELECT tenant_id FROM sessions WHERE status <> 'ended' AND (SELECT count(*) FROM soonest) = :crowd
         ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT s.tenant_id FROM sessions s WHERE s.status <> 'ended' AND s.tenant_id > living.tenant_id
                ORDER BY s.tenant_id LIMIT 1)
        FROM living WHERE living.tenant_id IS NOT NULL
    )
    SELECT tenant_id FROM soonest
    UNION
    SELECT living.tenant_id FROM living CROSS JOIN LATERAL (
        SELECT FROM sessions s WHERE s.tenant_id = living.tenant_id AND {DUE} LIMIT 1) due
    ORDER BY 1
    """).bindparams(sa.bindparam("crowd", type_=sa.Integer))  # noqa: S608 - a constant of this module
)


def expires_after(moment: str, minutes: str) -> str:
    """SQL for the `expires_at` of a session that has all of its time again at `moment`: `minutes` later."""
    return f"{moment} + make_interval(mins => {minutes})"


LOCK_DUE = Statement(
    sa.text(f"""
    SELECT id, tenant_id, expires_at FROM sessions WHERE tenant_id = :tenant_id AND {DUE}
    ORDER BY expires_minute LIMIT :limit FOR UPDATE SKIP LOCKED
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))  # noqa: S608 - as above
)

LOCK_DUE_BY_NAME = Statement(
    sa.text(f"""
    SELECT id, tenant_id, expires_at FROM sessions
    WHERE tenant_id = :tenant_id AND user_id = :user_id AND external_id = :external_id AND {DUE} FOR UPDATE
    """)  # noqa: S608 - as above
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
        FROM due WHERE sessions.id = due.id AND sessions.status <> 'ended'
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
"""Ends sessions that this transaction holds and that have not been recorded as ended, each with one event."""


class Due(msgspec.Struct, frozen=True):
    """A session whose time is over."""

    id: UUID
    tenant_id: str
    expires_at: datetime


async def due_tenants(tx: Tx) -> list[str]:
    """The tenants that have sessions whose time is over and that have not been recorded as ended."""
    return [row["tenant_id"] for row in await tx.rows(DUE_TENANTS, crowd=CROWD)]


async def lock_due(tx: Tx, tenant_id: str, limit: int) -> list[Due]:
    """Hold at most `limit` sessions of a tenant whose time is over and that no request holds, the first one first."""
    rows = await tx.rows(LOCK_DUE, tenant_id=tenant_id, limit=limit)
    return [Due(row["id"], row["tenant_id"], row["expires_at"]) for row in rows]


async def lock_due_by_name(tx: Tx, tenant_id: str, user_id: str, external_id: str) -> list[Due]:
    """Hold the session of `user_id` that bears `external_id` and whose time is over; none: its end is recorded."""
    rows = await tx.rows(LOCK_DUE_BY_NAME, tenant_id=tenant_id, user_id=user_id, external_id=external_id)
    return [Due(row["id"], row["tenant_id"], row["expires_at"]) for row in rows]


async def expire(tx: Tx, session_ids: list[UUID], event_ids: list[UUID], cause: Cause) -> int:
    """Record the end of sessions that this transaction holds, each with one event; how many were not recorded yet."""
    return int(await tx.value(EXPIRE, session_ids=session_ids, event_ids=event_ids, **cause_parameters(cause)))
