"""Deliveries as their owners see them: listed, sent again, and forgotten in the end."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from service.domain.delivery import FINISHED_DAYS_KEPT, Delivery, DeliveryStatus, Failure
from service.store.engine import Row, Statement, Tx, written_out, written_out_if_any
from service.store.tables import Time
from service.store.webhooks import hold

COLUMNS = """id, endpoint_id, event_id, event_type, session_id, event_seq, status, attempt_count,
    CASE WHEN NOT is_in_flight THEN due_at END AS due_at, last_attempt_at, response_status, error, latency_ms,
    created_at, finished_at"""

PAGE = Statement(
    sa.text(f"""
    SELECT {COLUMNS} FROM webhook_deliveries
    WHERE endpoint_id = :endpoint_id AND (CAST(:before_id AS uuid) IS NULL OR id < CAST(:before_id AS uuid))
    ORDER BY id DESC LIMIT :limit
    """)  # noqa: S608 - built from constants of this module alone
)

PAGE_OF_STATUS = Statement(
    sa.text(f"""
    SELECT {COLUMNS} FROM webhook_deliveries
    WHERE endpoint_id = :endpoint_id AND status = :status
      AND (CAST(:before_id AS uuid) IS NULL OR id < CAST(:before_id AS uuid))
    ORDER BY id DESC LIMIT :limit
    """)  # noqa: S608 - as above
)

ADD_TEST = Statement(
    sa.text(f"""
    INSERT INTO webhook_deliveries
        (id, tenant_id, endpoint_id, event_id, event_type, test_event, status, attempt_count, due_at, is_in_flight,
         lease_token, created_at)
    VALUES (:id, :tenant_id, :endpoint_id, :event_id, :event_type, CAST(:test_event AS json), 'pending', 0,
            statement_timestamp(), false, 0, statement_timestamp())
    RETURNING {COLUMNS}
    """)  # noqa: S608 - as above
)

LOCK = Statement(
    sa.text(f"""
    SELECT {COLUMNS}, is_in_flight AND coalesce(due_at > statement_timestamp(), false) AS is_flying
    FROM webhook_deliveries WHERE id = :id AND endpoint_id = :endpoint_id FOR UPDATE
    """)  # noqa: S608 - as above
)

HASTEN = Statement(
    sa.text(f"""
    UPDATE webhook_deliveries SET due_at = statement_timestamp() WHERE id = :id AND due_at IS NOT NULL
    RETURNING {COLUMNS}
    """)  # noqa: S608 - as above
)

AGAIN = """status = 'pending', attempt_count = 0, is_in_flight = false, finished_at = NULL, response_status = NULL,
    error = NULL, latency_ms = NULL, last_attempt_at = NULL, lease_token = lease_token + 1"""

REDELIVER = Statement(
    sa.text(f"""
    UPDATE webhook_deliveries SET {AGAIN}, due_at = CASE WHEN session_id IS NULL THEN statement_timestamp() END
    WHERE id = :id
    """)  # noqa: S608 - as above
)

REDELIVER_SINCE = Statement(
    sa.text(f"""
    WITH chosen AS (
        SELECT id FROM webhook_deliveries
        WHERE endpoint_id = :endpoint_id AND status = ANY (:statuses) AND created_at >= :since
          AND session_id IS NOT NULL AND (CAST(:ended_before AS timestamptz) IS NULL OR finished_at < :ended_before)
        ORDER BY id LIMIT :limit
    ), again AS (
        UPDATE webhook_deliveries AS d SET {AGAIN}, due_at = NULL FROM chosen WHERE d.id = chosen.id RETURNING d.id
    )
    SELECT count(*) FROM again
    """).bindparams(  # noqa: S608 - as above
        sa.bindparam("statuses", type_=pg.ARRAY(sa.Text)),
        sa.bindparam("since", type_=Time),
        sa.bindparam("ended_before", type_=Time),
    )
)

LET_FIRST_GO = Statement(
    sa.text("""
    UPDATE webhook_deliveries AS d SET due_at = statement_timestamp()
    FROM (SELECT DISTINCT ON (session_id) id, due_at FROM webhook_deliveries
          WHERE endpoint_id = :endpoint_id AND status = 'pending' AND session_id IS NOT NULL
          ORDER BY session_id, event_seq) first
    WHERE d.id = first.id AND first.due_at IS NULL
    """)
)
"""Of each session the first pending one can be sent."""

LET_GO = Statement(
    sa.text("""
    UPDATE webhook_deliveries SET due_at = statement_timestamp()
    WHERE endpoint_id = :endpoint_id AND status = 'pending' AND due_at IS NULL
    """)
)
"""All can be sent."""

GET = Statement(sa.text(f"SELECT {COLUMNS} FROM webhook_deliveries WHERE id = :id"))  # noqa: S608 - as above

DISABLED = Statement(
    sa.text("""
    SELECT e.id FROM webhook_endpoints e
    WHERE e.disabled_at IS NOT NULL AND e.deleted_at IS NULL
      AND EXISTS (SELECT FROM webhook_deliveries d WHERE d.endpoint_id = e.id AND d.status = 'pending')
    LIMIT 1
    """)
)

IS_DISABLED = Statement(sa.text("SELECT id FROM webhook_endpoints WHERE id = :endpoint_id AND disabled_at IS NOT NULL"))

CANCEL = Statement(
    sa.text("""
    WITH chosen AS (
        SELECT id FROM webhook_deliveries
        WHERE endpoint_id = :endpoint_id AND status = 'pending'
          AND NOT (is_in_flight AND coalesce(due_at > statement_timestamp(), false))
        LIMIT :limit FOR UPDATE SKIP LOCKED
    ), cancelled AS (
        UPDATE webhook_deliveries AS d SET
            status = 'cancelled', finished_at = statement_timestamp(), due_at = NULL, is_in_flight = false
        FROM chosen WHERE d.id = chosen.id RETURNING d.id
    )
    SELECT count(*) FROM cancelled
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))
)

FORGET = Statement(
    sa.text(f"""
    WITH old AS (
        SELECT id FROM webhook_deliveries
        WHERE finished_at IS NOT NULL AND finished_at < statement_timestamp() - interval '{FINISHED_DAYS_KEPT} days'
        ORDER BY finished_at LIMIT :limit
    ), gone AS (DELETE FROM webhook_deliveries d USING old WHERE d.id = old.id RETURNING 1)
    SELECT count(*) FROM gone
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))  # noqa: S608 - as above
)

DELETED = Statement(sa.text("SELECT id FROM webhook_endpoints WHERE deleted_at IS NOT NULL LIMIT 1"))

ERASE = Statement(
    sa.text("""
    WITH old AS (SELECT id FROM webhook_deliveries WHERE endpoint_id = :endpoint_id LIMIT :limit
    ), gone AS (DELETE FROM webhook_deliveries d USING old WHERE d.id = old.id RETURNING 1)
    SELECT count(*) FROM gone
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))
)

ERASE_ENDPOINT = Statement(sa.text("DELETE FROM webhook_endpoints WHERE id = :endpoint_id AND deleted_at IS NOT NULL"))


async def page(
    tx: Tx, endpoint_id: UUID, *, status: DeliveryStatus | None, before_id: UUID | None, limit: int
) -> list[Delivery]:
    """An endpoint's deliveries, newest first."""
    if status is None:
        rows = await tx.rows(PAGE, endpoint_id=endpoint_id, before_id=before_id, limit=limit)
    else:
        rows = await tx.rows(PAGE_OF_STATUS, endpoint_id=endpoint_id, status=status, before_id=before_id, limit=limit)
    return [_delivery(row) for row in rows]


async def get(tx: Tx, delivery_id: UUID) -> Delivery:
    """A delivery that is known to be there."""
    row = await tx.row(GET, id=delivery_id)
    if row is None:
        raise LookupError("a delivery that was held is gone")
    return _delivery(row)


async def add_test(
    tx: Tx, *, delivery_id: UUID, tenant_id: str, endpoint_id: UUID, event_id: UUID, event_type: str, test_event: bytes
) -> Delivery:
    """A delivery that is about no session and brings its own body."""
    row = await tx.row(
        ADD_TEST,
        id=delivery_id,
        tenant_id=tenant_id,
        endpoint_id=endpoint_id,
        event_id=event_id,
        event_type=event_type,
        test_event=test_event.decode(),
    )
    if row is None:
        raise LookupError("an insert returned no row")
    return _delivery(row)


async def lock(tx: Tx, endpoint_id: UUID, delivery_id: UUID) -> tuple[Delivery, bool] | None:
    """A delivery, held, and whether it is on its way right now."""
    row = await tx.row(LOCK, endpoint_id=endpoint_id, id=delivery_id)
    return None if row is None else (_delivery(row), row["is_flying"])


async def hasten(tx: Tx, delivery_id: UUID) -> None:
    """Do not wait for the next attempt; one that waits for an earlier one goes on doing so."""
    await tx.rows(HASTEN, id=delivery_id)


async def redeliver(tx: Tx, delivery_id: UUID) -> None:
    """Let a finished one begin anew, once it is let go."""
    await tx.rows(REDELIVER, id=delivery_id)


async def redeliver_since(
    tx: Tx,
    endpoint_id: UUID,
    *,
    since: datetime,
    statuses: list[DeliveryStatus],
    ended_before: datetime | None,
    limit: int,
) -> int:
    """Let finished ones begin anew, the oldest first, once they are let go; how many."""
    return int(
        await tx.value(
            REDELIVER_SINCE,
            endpoint_id=endpoint_id,
            since=since,
            statuses=[*map(str, statuses)],
            ended_before=ended_before,
            limit=limit,
        )
    )


async def let_go(tx: Tx, endpoint_id: UUID, *, in_order: bool) -> None:
    """Let those be sent for which it is time: the first of each session, or all. The endpoint is held."""
    await tx.rows(LET_FIRST_GO if in_order else LET_GO, endpoint_id=endpoint_id)


async def cancel_some(tx: Tx, limit: int) -> int:
    """Cancel what waits for an endpoint that is disabled, but for what is on its way; how many."""
    endpoint_id: UUID | None = await tx.value(DISABLED)
    if endpoint_id is None:
        return 0
    await hold(tx, endpoint_id)
    if await tx.value(IS_DISABLED, endpoint_id=endpoint_id) is None:  # it was enabled meanwhile
        return 0
    return int(await tx.value(CANCEL, endpoint_id=endpoint_id, limit=limit))


async def forget_some(tx: Tx, limit: int) -> int:
    """Delete what has been finished for long; how many."""
    return int(await tx.value(FORGET, limit=limit))


async def erase_some(tx: Tx, limit: int) -> int:
    """Delete rows of an endpoint that is deleted, in the end its own; how many."""
    endpoint_id: UUID | None = await tx.value(DELETED)
    if endpoint_id is None:
        return 0
    await hold(tx, endpoint_id)
    erased = int(await tx.value(ERASE, endpoint_id=endpoint_id, limit=limit))
    if not erased:
        await tx.rows(ERASE_ENDPOINT, endpoint_id=endpoint_id)
        return 1
    return erased


def _delivery(row: Row) -> Delivery:
    error = row["error"]
    return Delivery(
        id=row["id"],
        webhook_id=row["endpoint_id"],
        event_id=row["event_id"],
        event_type=row["event_type"],
        session_id=row["session_id"],
        event_seq=row["event_seq"],
        status=DeliveryStatus(row["status"]),
        attempts=row["attempt_count"],
        next_attempt_at=written_out_if_any(row["due_at"]),
        last_attempt_at=written_out_if_any(row["last_attempt_at"]),
        response_status=row["response_status"],
        error=None if error is None else Failure(error),
        latency_ms=row["latency_ms"],
        created_at=written_out(row["created_at"]),
        finished_at=written_out_if_any(row["finished_at"]),
    )
