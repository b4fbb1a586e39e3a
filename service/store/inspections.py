"""The work of inspecting files: claims under a lease with a fencing token, progress, and what came of it.

A claim is good until `due_at`; a later one gets the next token, and what an old claim records matches no row any more.
Tenants take turns, and the sessions of a tenant do: the file of a bulk waits behind its own session's files only.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.attachment import Attachment, Outcome
from service.store.attachments import COLUMNS, attachment_of
from service.store.engine import Statement, Tx

LEASE_SECONDS = 10
"""How long a worker that died keeps its file from the others; a live one renews it every second."""

CLAIMS_LOCK = 0x46696C65
"""The advisory lock under which claims are made one after the other ("File" in ASCII).

Two at once would each count a tenant's files in work before the other's was there, and take the same turn.
"""

LEAD_CLAIMS = Statement(
    sa.text("SELECT pg_advisory_xact_lock(:lock)").bindparams(sa.bindparam("lock", type_=sa.BigInteger))
)

LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"
"""Above every session's id."""

DUE = """a.status IN ('uploaded', 'processing') AND a.deleted_at IS NULL
             AND a.due_at + interval '0' <= statement_timestamp()"""
"""Written such that no index by time alone serves it: of 100,000 that are due it would read all (measured)."""

CLAIM = Statement(
    sa.text(f"""
    WITH RECURSIVE busy AS MATERIALIZED (
        SELECT tenant_id, session_id, count(*) AS files FROM attachments
        WHERE status = 'processing' AND deleted_at IS NULL AND due_at > statement_timestamp()
        GROUP BY tenant_id, session_id
    ), waiting (tenant_id) AS (
        -- Every tenant with a file that is due, one step of the index each, however many files that is.
        (SELECT a.tenant_id FROM attachments a WHERE a.tenant_id >= '' AND {DUE} ORDER BY a.tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT a.tenant_id FROM attachments a WHERE a.tenant_id > waiting.tenant_id AND {DUE}
                ORDER BY a.tenant_id LIMIT 1)
        FROM waiting WHERE waiting.tenant_id IS NOT NULL
    ), tenant AS (
        SELECT w.tenant_id, coalesce(b.sessions, 0) AS busy_sessions,
               coalesce(t.served_session_id, '{LAST_ID}') AS served_id
        FROM waiting w
        LEFT JOIN inspection_turns t ON t.tenant_id = w.tenant_id
        LEFT JOIN (SELECT tenant_id, sum(files) AS files, count(*) AS sessions FROM busy GROUP BY tenant_id) b
            ON b.tenant_id = w.tenant_id
        WHERE w.tenant_id IS NOT NULL AND w.tenant_id <> ALL (CAST(:full_tenants AS text[]))
        ORDER BY coalesce(b.files, 0), t.turn NULLS FIRST, w.tenant_id LIMIT 1
    ), lanes (session_id, lap, place) AS (
        -- Its sessions with a file that is due, from the next older one than was served last, and around: one more than
        -- those that are busy, so that one that is not is among them, if there is any.
        SELECT served_id, 0, 0 FROM tenant
        UNION ALL
        SELECT next.session_id, next.lap, lanes.place + 1
        FROM lanes CROSS JOIN tenant CROSS JOIN LATERAL (
            (SELECT a.session_id, lanes.lap FROM attachments a
             WHERE a.tenant_id = tenant.tenant_id AND a.session_id < lanes.session_id AND {DUE}
             ORDER BY a.session_id DESC LIMIT 1)
            UNION ALL
            (SELECT a.session_id, 1 FROM attachments a WHERE a.tenant_id = tenant.tenant_id AND lanes.lap = 0 AND {DUE}
             ORDER BY a.session_id DESC LIMIT 1)
            ORDER BY lap LIMIT 1
        ) next
        WHERE lanes.place <= tenant.busy_sessions AND (next.lap = 0 OR next.session_id >= tenant.served_id)
    ), in_turn AS (
        SELECT file.session_id, file.id
        FROM lanes CROSS JOIN tenant
        LEFT JOIN busy ON busy.tenant_id = tenant.tenant_id AND busy.session_id = lanes.session_id
        CROSS JOIN LATERAL (
            SELECT a.session_id, a.id FROM attachments a
            WHERE a.tenant_id = tenant.tenant_id AND a.session_id = lanes.session_id AND {DUE}
            ORDER BY a.due_at LIMIT 1 FOR UPDATE SKIP LOCKED
        ) file
        WHERE lanes.place > 0
        ORDER BY coalesce(busy.files, 0), lanes.place LIMIT 1
    ), oldest AS (
        -- Requests hold every file whose turn it is: any other that is free.
        SELECT a.session_id, a.id FROM attachments a
        WHERE a.due_at <= statement_timestamp() AND {DUE} AND NOT EXISTS (SELECT FROM in_turn)
          AND EXISTS (SELECT FROM tenant) AND a.tenant_id <> ALL (CAST(:full_tenants AS text[]))
        ORDER BY a.due_at LIMIT 1 FOR UPDATE OF a SKIP LOCKED
    ), claimed AS (
        UPDATE attachments AS a SET
            status = 'processing', attempt_count = a.attempt_count + 1, lease_token = a.lease_token + 1,
            due_at = statement_timestamp() + interval '{LEASE_SECONDS} seconds'
        FROM (SELECT * FROM in_turn UNION ALL SELECT * FROM oldest) due
        WHERE a.session_id = due.session_id AND a.id = due.id
        RETURNING a.*
    ), served AS (
        INSERT INTO inspection_turns (tenant_id, served_session_id) SELECT tenant_id, session_id FROM claimed
        ON CONFLICT (tenant_id) DO UPDATE SET served_session_id = excluded.served_session_id, turn = DEFAULT
    )
    SELECT tenant_id, session_id, id, filename, declared_content_type, size, sha256, attempt_count, lease_token,
           extract(epoch FROM statement_timestamp() - uploaded_at)::double precision AS waited_seconds
    FROM claimed
    """)  # noqa: S608 - constants of this module
)
"""The tenant with the fewest files in work, of these the one whose last turn is longest ago; of its sessions likewise.

Of a session the file that became due first. Sessions go from new to old: those that are opened meanwhile, however many,
come after all that wait.
"""

HOLDS = """session_id = :session_id AND id = :attachment_id AND lease_token = :lease_token
      AND status = 'processing' AND deleted_at IS NULL"""

RENEW = Statement(
    sa.text(f"""
    UPDATE attachments SET due_at = statement_timestamp() + interval '{LEASE_SECONDS} seconds',
           properties = coalesce(CAST(:properties AS json), properties)
    WHERE {HOLDS} RETURNING true
    """)  # noqa: S608 - as above
)

POSTPONE = Statement(
    sa.text(f"""
    UPDATE attachments SET status = 'uploaded', attempt_count = attempt_count - CAST(:uncounted AS smallint),
           due_at = statement_timestamp() + make_interval(secs => CAST(:seconds AS double precision))
    WHERE {HOLDS} RETURNING true
    """)  # noqa: S608 - as above
)

RECORD = Statement(
    sa.text(f"""
    UPDATE attachments AS a SET
        status = :status, error = :error, properties = CAST(:properties AS json),
        content_type = coalesce(CAST(:content_type AS text), content_type),
        attachment_type = coalesce(CAST(:attachment_type AS text), attachment_type),
        text_sha256 = :text_sha256, thumbnail_sha256 = :thumbnail_sha256,
        scanned_at = CASE WHEN CAST(:is_scanned AS boolean) THEN :moment ELSE scanned_at END, processed_at = :moment
    WHERE {HOLDS} RETURNING {COLUMNS}
    """)  # noqa: S608 - as above
)

FORGET_SESSION = Statement(
    sa.text(f"""
    UPDATE inspection_turns SET served_session_id = '{LAST_ID}'
    WHERE tenant_id = :tenant_id AND served_session_id = :session_id
    """)  # noqa: S608 - as above
)

BACKLOG = Statement(
    sa.text("""
    SELECT (SELECT count(*) FROM (
                SELECT FROM attachments
                WHERE status IN ('uploaded', 'processing') AND deleted_at IS NULL AND due_at <= clock_timestamp()
                LIMIT :count_max) counted) AS waiting,
           coalesce(extract(epoch FROM clock_timestamp() - (
                SELECT min(due_at) FROM attachments
                WHERE status IN ('uploaded', 'processing') AND deleted_at IS NULL AND due_at <= clock_timestamp()
           )), 0)::float8 AS oldest_seconds
    """).bindparams(sa.bindparam("count_max", type_=sa.Integer))
)

BACKLOG_COUNT_MAX = 100_000
"""Counting stops here: a metric must stay cheap on the worst day."""


class Waiting(msgspec.Struct, frozen=True):
    """How many files could be inspected now and are not, and for how long the first of them could."""

    files: int
    oldest_seconds: float


class Claim(msgspec.Struct, frozen=True):
    """A file that this worker, and nobody else, is to inspect now."""

    tenant_id: str
    session_id: UUID
    attachment_id: UUID
    filename: str
    declared_content_type: str
    size: int
    sha256: bytes
    attempt: int
    lease_token: int
    waited_seconds: float


async def claim(tx: Tx, full_tenants: Collection[str] = ()) -> Claim | None:
    """The file whose turn it is, of those that are due; None: none is due, or requests hold all that are.

    Files of `full_tenants` are left out: those have all the places of a worker that one tenant may have. Claims are
    made one after the other: another one waits until this transaction ends.
    """
    await tx.value(LEAD_CLAIMS, lock=CLAIMS_LOCK)
    row = await tx.row(CLAIM, full_tenants=list(full_tenants))
    return None if row is None else Claim(*row)


async def renew(tx: Tx, held: Claim, properties: dict[str, float] | None) -> bool:
    """Keep a claim for another lease, and say how far the work is; False: somebody else has it, or the file is gone."""
    written = None if properties is None else msgspec.json.encode(properties).decode()
    return bool(await tx.value(RENEW, **_fence(held), properties=written))


async def postpone(tx: Tx, held: Claim, seconds: float, *, is_attempt: bool) -> bool:
    """Give a claim back, to be taken again later; it counts as an attempt only where the file had a part in it."""
    return bool(await tx.value(POSTPONE, **_fence(held), seconds=seconds, uncounted=0 if is_attempt else 1))


async def record(
    tx: Tx,
    held: Claim,
    outcome: Outcome,
    *,
    text_sha256: bytes | None,
    thumbnail_sha256: bytes | None,
    moment: datetime,
) -> Attachment | None:
    """Record how an inspection ended; None: the claim was lost meanwhile."""
    row = await tx.row(
        RECORD,
        **_fence(held),
        status=outcome.status,
        error=outcome.error,
        properties=msgspec.json.encode(outcome.properties).decode(),
        content_type=outcome.content_type,
        attachment_type=outcome.attachment_type,
        text_sha256=text_sha256,
        thumbnail_sha256=thumbnail_sha256,
        is_scanned=outcome.is_scanned,
        moment=moment,
    )
    return None if row is None else attachment_of(row)


async def forget_session(tx: Tx, tenant_id: str, session_id: UUID) -> None:
    """Forget that a session, which is erased, was the last one that was served; claims of its tenant wait for this."""
    await tx.rows(FORGET_SESSION, tenant_id=tenant_id, session_id=session_id)


async def backlog(tx: Tx) -> Waiting:
    """How far the inspections are behind."""
    row = await tx.row(BACKLOG, count_max=BACKLOG_COUNT_MAX)
    return Waiting(0, 0.0) if row is None else Waiting(row["waiting"], row["oldest_seconds"])


def _fence(held: Claim) -> dict[str, object]:
    return {"session_id": held.session_id, "attachment_id": held.attachment_id, "lease_token": held.lease_token}
