"""Workers' signs of life, so that operators see who is at work without asking Redis."""

from __future__ import annotations

from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.store.engine import Statement, Tx
from service.store.tables import Id

FORGOTTEN_AFTER_HOURS = 1
"""A worker that has been silent this long is gone; its row would only mislead."""

HEARD_SECONDS = 15
"""Three missed signs of life: what an older one says of its worker counts no more."""

BEAT = Statement(
    sa.text(f"""
    WITH gone AS (
        DELETE FROM worker_heartbeats
        WHERE worker_id <> :worker_id
          AND seen_at < statement_timestamp() - interval '{FORGOTTEN_AFTER_HOURS} hours'
    )
    INSERT INTO worker_heartbeats (worker_id, queue, started_at, seen_at, locks)
    VALUES (:worker_id, :queue, statement_timestamp(), statement_timestamp(), CAST(:locks AS json))
    ON CONFLICT (worker_id) DO UPDATE SET seen_at = excluded.seen_at
    """).bindparams(sa.bindparam("worker_id", type_=Id))  # noqa: S608 - a constant of this module
)

LEAVE = Statement(
    sa.text("DELETE FROM worker_heartbeats WHERE worker_id = :worker_id").bindparams(
        sa.bindparam("worker_id", type_=Id)
    )
)

SILENCE = Statement(
    sa.text("""
    SELECT queue, extract(epoch FROM statement_timestamp() - max(seen_at))::float8 AS seconds
    FROM worker_heartbeats GROUP BY queue ORDER BY queue
    """)
)

LOCKS = Statement(
    sa.text(f"""
    SELECT lock.key AS name, bool_and(CAST(lock.value AS boolean)) AS holds
    FROM worker_heartbeats w CROSS JOIN LATERAL json_each_text(w.locks) lock
    WHERE w.seen_at > statement_timestamp() - interval '{HEARD_SECONDS} seconds'
    GROUP BY lock.key ORDER BY lock.key
    """)  # noqa: S608 - a constant of this module
)


async def beat(tx: Tx, worker_id: UUID, queue: str, locks: dict[str, bool] | None = None) -> None:
    """Say that this worker is alive now, and of one that inspects files which locks its children have."""
    written = None if locks is None else msgspec.json.encode(locks).decode()
    await tx.rows(BEAT, worker_id=worker_id, queue=queue, locks=written)


async def leave(tx: Tx, worker_id: UUID) -> None:
    """Say that this worker has stopped on purpose."""
    await tx.rows(LEAVE, worker_id=worker_id)


async def silence_seconds(tx: Tx) -> dict[str, float]:
    """For each queue, how long ago the last of its workers was heard."""
    return {row["queue"]: row["seconds"] for row in await tx.rows(SILENCE)}


async def locks(tx: Tx) -> dict[str, bool]:
    """Of each lock on inspections, whether every worker that is at work has it; empty where none is."""
    return {row["name"]: row["holds"] for row in await tx.rows(LOCKS)}
