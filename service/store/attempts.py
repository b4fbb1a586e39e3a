"""What becomes of claimed deliveries: leases renewed or given back, attempts recorded, the next of a session let go."""

from __future__ import annotations

from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.delivery import Outcome, Verdict
from service.domain.webhook import DisabledReason
from service.store.deliveries import CLAIMS_LOCK, LEASE_SECONDS, Claim
from service.store.engine import Statement, Tx
from service.store.webhooks import ENDPOINTS_LOCK, LANES_LOCK

HOLD = Statement(
    sa.text(f"""
    SELECT e.id, extract(epoch FROM clock_timestamp() - e.failing_since)::float8 AS failing_seconds,
           set_config('synchronous_commit', 'off', true)
    FROM (SELECT count(pg_advisory_xact_lock_shared({ENDPOINTS_LOCK}, bucket)) FROM (
              SELECT DISTINCT hashtext(CAST(id AS text)) & 255 AS bucket
              FROM unnest(CAST(:endpoint_ids AS uuid[])) AS id
              ORDER BY bucket) buckets) AS shared (endpoints),
         (SELECT count(pg_advisory_xact_lock({LANES_LOCK}, bucket)) FROM (
              SELECT DISTINCT hashtext(CAST(endpoint AS text) || CAST(session AS text)) & 255 AS bucket
              FROM unnest(CAST(:endpoint_ids AS uuid[]), CAST(:session_ids AS uuid[])) AS lane (endpoint, session)
              ORDER BY bucket) buckets) AS held (lanes),
         webhook_endpoints e
    WHERE e.id = ANY (CAST(:endpoint_ids AS uuid[])) AND shared.endpoints + held.lanes > 0
    """)  # noqa: S608 - constants of this package
)
"""As `webhooks.hold_lanes`, in one round trip. No wait for the disk: an attempt that a crash of PostgreSQL forgets is

made again, under the same id, and the few milliseconds would count once for each turn.
"""

RENEW = Statement(
    sa.text(f"""
    UPDATE webhook_deliveries AS d SET due_at = statement_timestamp() + interval '{LEASE_SECONDS} seconds'
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[])) AS held (id, token)
    WHERE d.id = held.id AND d.lease_token = held.token AND d.status = 'pending' AND d.is_in_flight
    """)  # noqa: S608 - as above
)

GIVE_BACK = Statement(
    sa.text("""
    UPDATE webhook_deliveries AS d SET is_in_flight = false, due_at = statement_timestamp()
    FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[])) AS held (id, token)
    WHERE d.id = held.id AND d.lease_token = held.token AND d.status = 'pending'
    """)
)

NEXT = """
    UPDATE webhook_deliveries AS n SET due_at = statement_timestamp()
    FROM (SELECT (SELECT d.id FROM webhook_deliveries d
                  WHERE d.endpoint_id = ended.endpoint_id AND d.session_id = ended.session_id AND d.status = 'pending'
                    AND d.id <> ALL (ARRAY(SELECT id FROM ended))
                  ORDER BY d.event_seq LIMIT 1) AS id
          FROM ended) first
    WHERE n.id = first.id AND n.due_at IS NULL"""
"""Behind `ended`, which returned deliveries that are pending no more: lets the next one of each session be sent."""

RECORD = Statement(
    sa.text(f"""
    WITH told AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:tokens AS bigint[]), CAST(:statuses AS text[]),
                             CAST(:retry_seconds AS float8[]), CAST(:response_statuses AS smallint[]),
                             CAST(:errors AS text[]), CAST(:latencies_ms AS integer[]))
             AS told (id, token, status, retry_seconds, response_status, error, latency_ms)
    ), recorded AS (
        UPDATE webhook_deliveries AS d SET
            status = told.status, attempt_count = d.attempt_count + 1, is_in_flight = false,
            due_at = CASE WHEN told.status = 'pending' THEN
                statement_timestamp() + make_interval(secs => told.retry_seconds) END,
            response_status = told.response_status, error = told.error, latency_ms = told.latency_ms,
            last_attempt_at = statement_timestamp(),
            finished_at = CASE WHEN told.status <> 'pending' THEN statement_timestamp() END
        FROM told WHERE d.id = told.id AND d.lease_token = told.token AND d.status = 'pending' AND d.is_in_flight
        RETURNING d.id, d.endpoint_id, d.session_id, d.status
    ), ended AS (SELECT * FROM recorded WHERE status <> 'pending'
    ), next AS ({NEXT})
    SELECT ARRAY(SELECT id FROM recorded) AS ids, pg_advisory_xact_lock({CLAIMS_LOCK})
    """)  # noqa: S608 - as above
)
"""An attempt counts once: whoever did not hear that it was recorded tells it again, and it is in flight no more.

It ends with the lock of the claims, which are what follows: one round trip less, and after all other locks.
"""

DROP = Statement(
    sa.text(f"""
    WITH ended AS (
        DELETE FROM webhook_deliveries
        WHERE id = CAST(:id AS uuid) AND lease_token = CAST(:token AS bigint) AND status = 'pending'
        RETURNING id, endpoint_id, session_id
    ), next AS ({NEXT})
    SELECT id FROM ended
    """)  # noqa: S608 - as above
)

NOTE_HEALTH = Statement(
    sa.text("""
    WITH told AS (
        SELECT * FROM unnest(CAST(:ids AS uuid[]), CAST(:good AS boolean[]), CAST(:bad AS boolean[]),
                             CAST(:reasons AS text[])) AS told (id, was_good, is_bad, reason)
    ), held AS (SELECT id FROM webhook_endpoints WHERE id IN (SELECT id FROM told) ORDER BY id FOR UPDATE)
    UPDATE webhook_endpoints AS e SET
        failing_since = CASE WHEN told.is_bad THEN
            coalesce(CASE WHEN NOT told.was_good THEN e.failing_since END, clock_timestamp()) END,
        disabled_at = CASE WHEN told.reason IS NULL THEN e.disabled_at
                           ELSE coalesce(e.disabled_at, clock_timestamp()) END,
        disabled_reason = CASE WHEN told.reason IS NULL THEN e.disabled_reason
                               ELSE coalesce(e.disabled_reason, told.reason) END
    FROM told JOIN held ON held.id = told.id WHERE e.id = told.id
    """)
)
"""Its rows are locked in one order for all."""


class Record(msgspec.Struct, frozen=True):
    """An attempt that has been made, and what follows from it."""

    held: Claim
    outcome: Outcome
    verdict: Verdict


class Health(msgspec.Struct):
    """How an endpoint has answered lately: well at least once, badly the last time, and whether that is the end."""

    endpoint_id: UUID
    was_good: bool = False
    is_bad: bool = False
    disables: DisabledReason | None = None


async def hold(tx: Tx, held: list[Claim]) -> dict[UUID, float]:
    """Share the endpoints of these, and hold their sessions there; for how long each that fails has done so."""
    rows = await tx.rows(
        HOLD,
        endpoint_ids=[one.endpoint_id for one in held],
        session_ids=[one.session_id or one.endpoint_id for one in held],
    )
    return {row["id"]: row["failing_seconds"] for row in rows if row["failing_seconds"] is not None}


async def record(tx: Tx, records: list[Record]) -> set[UUID]:
    """Record attempts, and where one was the last of its delivery, let the next of its session be sent.

    The sessions are held there. The ids of those recorded; any other was recorded already, its claim was lost
    meanwhile, or its delivery is gone.
    """
    ids: list[UUID] = await tx.value(
        RECORD,
        **_fences([one.held for one in records]),
        statuses=[one.verdict.status for one in records],
        retry_seconds=[one.verdict.retry_seconds for one in records],
        response_statuses=[one.outcome.response_status for one in records],
        errors=[one.outcome.error for one in records],
        latencies_ms=[one.outcome.latency_ms for one in records],
    )
    return set(ids)


async def note_health(tx: Tx, healths: list[Health]) -> None:
    """Note how endpoints have answered; where an end was found, nothing more is sent to them."""
    await tx.rows(
        NOTE_HEALTH,
        ids=[one.endpoint_id for one in healths],
        good=[one.was_good for one in healths],
        bad=[one.is_bad for one in healths],
        reasons=[one.disables for one in healths],
    )


async def drop(tx: Tx, held: Claim) -> None:
    """Take a delivery away whose event has been purged; the session is held there."""
    await tx.rows(DROP, id=held.delivery_id, token=held.lease_token)


async def renew(tx: Tx, held: list[Claim]) -> None:
    """Keep these for another lease."""
    await tx.rows(RENEW, **_fences(held))


async def give_back(tx: Tx, held: list[Claim]) -> None:
    """Let another worker attempt these at once."""
    await tx.rows(GIVE_BACK, **_fences(held))


def _fences(held: list[Claim]) -> dict[str, object]:
    return {"ids": [one.delivery_id for one in held], "tokens": [one.lease_token for one in held]}
