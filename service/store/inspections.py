"""The work of inspecting files: claims under a lease with a fencing token, progress, and what came of it.

A claim is good until `due_at`; whoever comes later may claim anew, and gets the next token. What an old claim records
matches no row any more.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.attachment import Attachment, Outcome
from service.store.attachments import COLUMNS, attachment_of
from service.store.engine import Statement, Tx

LEASE_SECONDS = 10
"""How long a worker that died keeps its file from the others; a live one renews it every second."""

CLAIM = Statement(
    sa.text(f"""
    WITH due AS (
        SELECT session_id, id FROM attachments
        WHERE status IN ('uploaded', 'processing') AND deleted_at IS NULL AND due_at <= statement_timestamp()
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    UPDATE attachments AS a SET
        status = 'processing', attempt_count = a.attempt_count + 1, lease_token = a.lease_token + 1,
        due_at = statement_timestamp() + interval '{LEASE_SECONDS} seconds'
    FROM due WHERE a.session_id = due.session_id AND a.id = due.id
    RETURNING a.tenant_id, a.session_id, a.id, a.filename, a.declared_content_type, a.size, a.sha256, a.attempt_count,
              a.lease_token,
              extract(epoch FROM statement_timestamp() - a.uploaded_at)::double precision AS waited_seconds
    """)  # noqa: S608 - a constant of this module
)

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


async def claim(tx: Tx) -> Claim | None:
    """The file that has waited longest, of those that are due and that nobody else has just claimed."""
    row = await tx.row(CLAIM)
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


async def backlog(tx: Tx) -> Waiting:
    """How far the inspections are behind."""
    row = await tx.row(BACKLOG, count_max=BACKLOG_COUNT_MAX)
    return Waiting(0, 0.0) if row is None else Waiting(row["waiting"], row["oldest_seconds"])


def _fence(held: Claim) -> dict[str, object]:
    return {"session_id": held.session_id, "attachment_id": held.attachment_id, "lease_token": held.lease_token}
