"""The work of delivering: made by the relay, claimed under a lease with a fencing token, recorded once.

A pending delivery is *due* from `due_at` on. Of the pending ones of a session at an endpoint that keeps the order only
the first has a `due_at`; who ends it sets the next one's (`RECORD`). So the index of what is due holds no more than can
be sent, however many wait behind a receiver that is away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.delivery import HOST_ATTEMPTS_MAX
from service.domain.event import Event
from service.store.engine import Row, Statement, Tx, written_out
from service.store.events import event_of

CLAIMS_LOCK = 0x486F6F6B
"""The advisory lock under which claims are made one after the other ("Hook" in ASCII): two at once would each count

an endpoint's deliveries in flight before the other's were there.
"""

IN_FLIGHT_MAX = 5
"""At one endpoint, over all workers: enough for 300 a second at 15 ms each, and no flood for a small receiver."""

IN_FLIGHT_MAX_WHILE_FAILING = 1
"""An endpoint that does not answer is asked by one attempt at a time: the slots are for those that do."""

LEASE_SECONDS = 10
"""How long a worker that died keeps its deliveries from the others; a live one renews them every three seconds."""

HOST = r"rtrim(substring(lower(e.url) from '^https?\://(\[[^]]*\]|[^\:/?]+)'), '.')"
"""The host in an endpoint's address, in one spelling and without the port. SQL, with its colons escaped."""

MAKE = Statement(
    sa.text("""
    INSERT INTO webhook_deliveries
        (id, tenant_id, endpoint_id, session_id, event_seq, event_id, event_type, status, attempt_count, due_at,
         is_in_flight, lease_token, created_at)
    SELECT new.id, e.tenant_id, new.endpoint_id, e.session_id, e.seq, e.id, e.type, 'pending', 0,
           CASE WHEN new.is_unordered OR (new.is_first AND NOT EXISTS (
                    SELECT FROM webhook_deliveries d
                    WHERE d.endpoint_id = new.endpoint_id AND d.session_id = new.session_id AND d.status = 'pending'))
                THEN statement_timestamp() END,
           false, 0, statement_timestamp()
    FROM (SELECT *, row_number() OVER (PARTITION BY endpoint_id, session_id ORDER BY seq) = 1 AS is_first
          FROM unnest(CAST(:ids AS uuid[]), CAST(:endpoint_ids AS uuid[]), CAST(:session_ids AS uuid[]),
                      CAST(:seqs AS bigint[]), CAST(:unordered AS boolean[]))
               AS wanted (id, endpoint_id, session_id, seq, is_unordered)) new
    JOIN events e ON e.session_id = new.session_id AND e.seq = new.seq
    JOIN webhook_endpoints w ON w.id = new.endpoint_id AND w.deleted_at IS NULL
    ORDER BY new.id
    ON CONFLICT DO NOTHING
    """)
)
"""An event whose session has been purged meanwhile is left out by the join, and so is a deleted endpoint."""

LEAD_CLAIMS = Statement(
    sa.text("SELECT pg_advisory_xact_lock(:lock), set_config('synchronous_commit', 'off', true)").bindparams(
        sa.bindparam("lock", type_=sa.BigInteger)
    )
)
"""No wait for the disk either: a claim that a crash of PostgreSQL forgets is simply made again."""

CLAIM = Statement(
    sa.text(f"""
    WITH RECURSIVE waiting (endpoint_id) AS (
        -- Every endpoint that something is due for, one step of the index each, however much that is.
        (SELECT endpoint_id FROM webhook_deliveries WHERE status = 'pending' AND due_at IS NOT NULL
         ORDER BY endpoint_id LIMIT 1)
        UNION ALL
        SELECT (SELECT d.endpoint_id FROM webhook_deliveries d
                WHERE d.status = 'pending' AND d.due_at IS NOT NULL AND d.endpoint_id > waiting.endpoint_id
                ORDER BY d.endpoint_id LIMIT 1)
        FROM waiting WHERE waiting.endpoint_id IS NOT NULL
    ), host AS MATERIALIZED (
        -- What each tenant has on its way to each host, over all workers: of what is claimed at an endpoint no more
        -- than {IN_FLIGHT_MAX} is sent at a time.
        SELECT e.tenant_id, {HOST} AS name, sum(least(held.claims, {IN_FLIGHT_MAX})) AS attempts
        FROM (SELECT endpoint_id, count(*) AS claims FROM webhook_deliveries
              WHERE is_in_flight AND due_at > statement_timestamp() GROUP BY endpoint_id) held
        JOIN webhook_endpoints e ON e.id = held.endpoint_id
        GROUP BY e.tenant_id, name
    ), due AS (
        SELECT chosen.id, chosen.due_at, e.url, e.tenant_id, {HOST} AS host, e.secret, w.is_doubtful, busy.in_flight,
               CASE WHEN e.old_secret_expires_at > statement_timestamp() THEN e.old_secret END AS old_secret,
               busy.in_flight + row_number() OVER (PARTITION BY e.id ORDER BY chosen.due_at) AS place
        FROM waiting
        JOIN webhook_endpoints e ON e.id = waiting.endpoint_id AND e.disabled_at IS NULL AND e.deleted_at IS NULL
        LEFT JOIN unnest(CAST(:holding_ids AS uuid[]), CAST(:holding AS integer[])) AS mine (endpoint_id, claims)
            ON mine.endpoint_id = e.id
        CROSS JOIN LATERAL (
            SELECT e.failing_since IS NOT NULL OR e.id = ANY (CAST(:slow_ids AS uuid[])) AS is_doubtful
        ) w
        CROSS JOIN LATERAL (
            SELECT count(*) AS in_flight FROM webhook_deliveries d
            WHERE d.endpoint_id = e.id AND d.is_in_flight AND d.due_at > statement_timestamp()
        ) busy
        CROSS JOIN LATERAL (
            SELECT d.id, d.due_at FROM webhook_deliveries d
            WHERE d.endpoint_id = e.id AND d.status = 'pending' AND d.due_at <= statement_timestamp()
            ORDER BY d.due_at
            LIMIT greatest(0, CASE WHEN e.failing_since IS NOT NULL THEN {IN_FLIGHT_MAX_WHILE_FAILING}
                                   -- Nobody else has any of them, and who claims sends no more than `each` at a time.
                                   WHEN NOT w.is_doubtful AND busy.in_flight <= coalesce(mine.claims, 0)
                                   THEN :each + :ahead ELSE :each END - busy.in_flight)
            FOR UPDATE SKIP LOCKED
        ) chosen
        WHERE NOT w.is_doubtful OR :doubtful > 0
    ), at_host AS (
        -- With each one that is sent at once, how many are on their way to its host. Where all of them are too many,
        -- nothing is claimed ahead there either.
        SELECT due.*, coalesce(host.attempts, 0) + count(*) FILTER (WHERE place <= {IN_FLIGHT_MAX}) OVER (
                   PARTITION BY due.tenant_id, due.host ORDER BY place, due.due_at, due.id ROWS UNBOUNDED PRECEDING
               ) AS attempts
        FROM due LEFT JOIN host ON host.tenant_id = due.tenant_id AND host.name = due.host
    ), ranked AS (
        SELECT *, row_number() OVER (PARTITION BY is_doubtful ORDER BY place, due_at) AS rank
        FROM at_host WHERE attempts <= :each_host
    ), fair AS (
        SELECT * FROM ranked WHERE NOT is_doubtful OR rank <= :doubtful ORDER BY place, due_at LIMIT :limit
    ), claimed AS (
        UPDATE webhook_deliveries AS d SET
            is_in_flight = true, lease_token = d.lease_token + 1,
            due_at = statement_timestamp() + interval '{LEASE_SECONDS} seconds'
        FROM fair WHERE d.id = fair.id AND d.status = 'pending' AND d.due_at <= statement_timestamp()
        RETURNING d.*, fair.url, fair.secret, fair.old_secret, fair.is_doubtful
    )
    SELECT c.id AS delivery_id, c.tenant_id, c.endpoint_id, c.session_id AS lane_id, c.url, c.secret, c.old_secret,
           c.event_id, c.event_type, c.attempt_count, c.lease_token, c.test_event, c.is_doubtful,
           statement_timestamp() AS moment,
           e.id, e.type, e.session_id, e.seq, e.occurred_at, e.actor_kind, e.actor_subject, e.request_id, e.data
    FROM claimed c LEFT JOIN events e ON e.session_id = c.session_id AND e.seq = c.event_seq
    """).bindparams(  # noqa: S608 - constants of this module
        sa.bindparam("limit", type_=sa.Integer),
        sa.bindparam("each", type_=sa.Integer),
        sa.bindparam("ahead", type_=sa.Integer),
        sa.bindparam("each_host", type_=sa.Integer),
        sa.bindparam("doubtful", type_=sa.Integer),
    )
)
"""The second one of an endpoint comes after the first ones of all others, so nobody is crowded out by many.

What may not go to its host yet stays as it is, due and nobody's, and takes no room of what goes elsewhere.
"""

BACKLOG = Statement(
    sa.text("""
    SELECT count(*) AS waiting,
           coalesce(extract(epoch FROM clock_timestamp() - min(due_at)), 0)::float8 AS oldest_seconds
    FROM (SELECT due_at FROM webhook_deliveries
          WHERE status = 'pending' AND due_at IS NOT NULL AND due_at <= clock_timestamp() LIMIT :count_max) due
    """).bindparams(sa.bindparam("count_max", type_=sa.Integer))
)

BACKLOG_COUNT_MAX = 100_000
"""Counting stops here: a metric must stay cheap on the worst day."""


MOMENT = Statement(sa.text("SELECT statement_timestamp()"))


class Wanted(msgspec.Struct, frozen=True):
    """An event that an endpoint is to be told of."""

    id: UUID
    endpoint_id: UUID
    session_id: UUID
    seq: int
    is_unordered: bool


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that this worker, and nobody else, is to attempt now. `event` and `test_event` None: it is purged.

    `secrets`: as they are stored, sealed.
    """

    delivery_id: UUID
    tenant_id: str
    endpoint_id: UUID
    session_id: UUID | None
    url: str
    secrets: list[str]
    event_id: UUID
    event_type: str
    attempt: int
    lease_token: int
    event: Event | None
    test_event: str | None
    is_doubtful: bool
    moment: datetime


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """How much may be claimed: at all, at each endpoint, and at those that fail or that are known to be slow.

    `ahead` more of an endpoint where nobody else holds any, to be sent when others have ended; `holding` says how many
    of each are held by who claims. `each_host` is how many of one tenant may be on their way to one host.
    """

    attempts: int
    each: int = IN_FLIGHT_MAX
    each_host: int = HOST_ATTEMPTS_MAX
    ahead: int = 0
    holding: Mapping[UUID, int] = {}
    doubtful: int
    slow_ids: Collection[UUID] = ()


class Backlog(msgspec.Struct, frozen=True):
    """How many deliveries could be attempted now and are not, and for how long the first of them could."""

    deliveries: int
    oldest_seconds: float


async def make(tx: Tx, wanted: list[Wanted]) -> None:
    """Let each of these events be sent to its endpoint, whose session there is held."""
    await tx.rows(
        MAKE,
        ids=[one.id for one in wanted],
        endpoint_ids=[one.endpoint_id for one in wanted],
        session_ids=[one.session_id for one in wanted],
        seqs=[one.seq for one in wanted],
        unordered=[one.is_unordered for one in wanted],
    )


async def lead_claims(tx: Tx) -> None:
    """Claim alone until this transaction has ended; `attempts.record` does that, too."""
    await tx.value(LEAD_CLAIMS, lock=CLAIMS_LOCK)


async def claim(tx: Tx, room: Room) -> list[Claim]:
    """Deliveries that are due, as many as there is room for, each endpoint in its turn.

    Who claims is alone, and this is the end of the transaction.
    """
    rows = await tx.rows(
        CLAIM,
        limit=room.attempts,
        each=room.each,
        ahead=room.ahead,
        each_host=room.each_host,
        holding_ids=list(room.holding),
        holding=list(room.holding.values()),
        doubtful=room.doubtful,
        slow_ids=list(room.slow_ids),
    )
    return [_claim(row) for row in rows]


async def backlog(tx: Tx) -> Backlog:
    """How far the deliveries are behind."""
    row = await tx.row(BACKLOG, count_max=BACKLOG_COUNT_MAX)
    return Backlog(0, 0.0) if row is None else Backlog(row["waiting"], row["oldest_seconds"])


async def moment(tx: Tx) -> datetime:
    """PostgreSQL's time."""
    now: datetime = await tx.value(MOMENT)
    return written_out(now)


def _claim(row: Row) -> Claim:
    return Claim(
        delivery_id=row["delivery_id"],
        tenant_id=row["tenant_id"],
        endpoint_id=row["endpoint_id"],
        session_id=row["lane_id"],
        url=row["url"],
        secrets=[secret for secret in (row["secret"], row["old_secret"]) if secret],
        event_id=row["event_id"],
        event_type=row["event_type"],
        attempt=row["attempt_count"] + 1,
        lease_token=row["lease_token"],
        event=None if row["id"] is None else event_of(row),
        test_event=row["test_event"],
        is_doubtful=row["is_doubtful"],
        moment=row["moment"],
    )
