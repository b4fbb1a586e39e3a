"""The outbox: one small row for each event that has not been relayed yet. Relaying deletes; nothing is flagged."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.event import EventType
from service.store.engine import Statement, Tx

LEADER_LOCK = 0x486F6C64
"""The advisory lock that makes one relay the leader ("Hold" in ASCII); it is released with the transaction."""

LEAD = Statement(sa.text("SELECT pg_advisory_xact_lock(:lock)").bindparams(sa.bindparam("lock", type_=sa.BigInteger)))

BY_INDEX = Statement(
    sa.text("""
    SELECT set_config('plan_cache_mode', 'force_custom_plan', true), set_config('enable_seqscan', 'off', true)
    """)
)
"""For the rest of the transaction. What PostgreSQL knows of this table is from a moment ago, when it was empty or full.
With a plan for few rows, a join of a batch with 60,000 compared each with each, and no event was relayed for 46 s
(measured); so what is taken is found by an index, without a join."""

NEXT = Statement(
    sa.text("""
    WITH RECURSIVE waiting (tenant_id) AS (
        -- Every tenant of which an event waits, one step of the index each, however many events that is.
        (SELECT tenant_id FROM outbox ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT o.tenant_id FROM outbox o WHERE o.tenant_id > waiting.tenant_id ORDER BY o.tenant_id LIMIT 1)
        FROM waiting WHERE waiting.tenant_id IS NOT NULL
    ), share AS (
        SELECT CAST(ceil(CAST(:limit AS integer) / greatest(count(tenant_id), 1)::float8) AS integer) AS rows
        FROM waiting
    ), fair AS (
        SELECT own.*, row_number() OVER (PARTITION BY own.tenant_id ORDER BY own.id) AS place
        FROM waiting CROSS JOIN LATERAL (
            SELECT o.* FROM outbox o WHERE o.tenant_id = waiting.tenant_id ORDER BY o.id LIMIT (SELECT rows FROM share)
        ) own
        ORDER BY place, own.id LIMIT :limit
    )
    SELECT id, tenant_id, session_id, event_seq, event_type, recorded_at FROM fair ORDER BY id
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))
)
"""An equal share for each tenant that waits, its oldest ones; what shares leave over is for the next batch."""

TAKE = Statement(
    sa.text("""
    WITH batch AS (SELECT id FROM outbox WHERE id = ANY (CAST(:ids AS bigint[])) ORDER BY id FOR UPDATE SKIP LOCKED)
    DELETE FROM outbox WHERE id = ANY (ARRAY(SELECT id FROM batch)) RETURNING id
    """)
)

ADVANCE = Statement(
    sa.text("""
    UPDATE relay_progress SET relayed_total = relayed_total + :count, relayed_at = clock_timestamp() WHERE id = 1
    RETURNING relayed_total, relayed_at
    """).bindparams(sa.bindparam("count", type_=sa.Integer))
)

BACKLOG = Statement(
    sa.text("""
    SELECT (SELECT count(*) FROM (SELECT FROM outbox LIMIT :count_max) counted) AS waiting,
           coalesce(extract(epoch FROM clock_timestamp()
                    - (SELECT recorded_at FROM outbox ORDER BY id LIMIT 1)), 0)::float8 AS oldest_seconds,
           relayed_total
    FROM relay_progress WHERE id = 1
    """).bindparams(sa.bindparam("count_max", type_=sa.Integer))
)

BACKLOG_COUNT_MAX = 100_000
"""Counting stops here: a metric must stay cheap on the worst day."""


class OutboxRow(msgspec.Struct, frozen=True):
    """An event that waits to be relayed."""

    id: int
    tenant_id: str
    session_id: UUID
    event_seq: int
    event_type: EventType
    recorded_at: datetime


class Progress(msgspec.Struct, frozen=True):
    """How many events were ever relayed, and the database's time at this count."""

    relayed_total: int
    relayed_at: datetime


class Backlog(msgspec.Struct, frozen=True):
    """How far the relay is behind."""

    waiting: int
    oldest_seconds: float
    relayed_total: int


async def next_rows(tx: Tx, limit: int) -> list[OutboxRow]:
    """At most `limit` rows, of each tenant its oldest ones in equal shares, in the order of their ids. They stay."""
    await tx.rows(BY_INDEX)
    return [
        OutboxRow(
            row["id"],
            row["tenant_id"],
            row["session_id"],
            row["event_seq"],
            EventType(row["event_type"]),
            row["recorded_at"],
        )
        for row in await tx.rows(NEXT, limit=limit)
    ]


async def lead(tx: Tx) -> None:
    """Become the one relay for this transaction, after any other has ended its own."""
    await tx.value(LEAD, lock=LEADER_LOCK)
    await tx.rows(BY_INDEX)


async def take(tx: Tx, rows: list[OutboxRow]) -> list[OutboxRow]:
    """Take those of these rows out that are there and free. They are back if the transaction does not commit."""
    taken = {row["id"] for row in await tx.rows(TAKE, ids=[row.id for row in rows])}
    return [row for row in rows if row.id in taken]


async def advance(tx: Tx, count: int) -> Progress:
    """Count `count` more events as relayed."""
    row = await tx.row(ADVANCE, count=count)
    if row is None:
        raise LookupError("the row of relay_progress is gone; run 'holdfast migrate'")
    return Progress(row["relayed_total"], row["relayed_at"])


async def backlog(tx: Tx) -> Backlog:
    """What waits, for the metrics."""
    row = await tx.row(BACKLOG, count_max=BACKLOG_COUNT_MAX)
    return Backlog(0, 0.0, 0) if row is None else Backlog(row["waiting"], row["oldest_seconds"], row["relayed_total"])
