"""Webhook endpoints, and the locks under which it changes which of their deliveries are pending.

The relay and the workers share an endpoint, and hold each session of it (a lane) alone; who redelivers, enables or
cancels holds the endpoint alone. So "is an earlier one pending?" and "which one comes next?" are never asked of a state
that is about to change, and the relay's commit does not stand in the way of an endpoint's other sessions. The locks are
advisory ones in a few hundred buckets, because PostgreSQL has room for thousands, not for one of each session.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from service.domain.event import EventType
from service.domain.webhook import OLD_SECRET_HOURS, DisabledReason, Ordering, Webhook
from service.store.engine import Row, Statement, Tx, written_out, written_out_if_any
from service.store.tables import Id

COLUMNS = """id, url, event_types, description, ordering, disabled_at, disabled_reason, failing_since,
    CASE WHEN old_secret_expires_at > statement_timestamp() THEN old_secret_expires_at END AS old_secret_expires_at,
    created_at, updated_at, created_by"""

COUNT = Statement(sa.text("SELECT count(*) FROM webhook_endpoints WHERE tenant_id = :tenant_id AND deleted_at IS NULL"))

COUNT_LOCK = Statement(sa.text("SELECT pg_advisory_xact_lock(hashtext('webhooks'), hashtext(:tenant_id))"))
"""Makes a tenant's new endpoints wait for each other, so that no two of them are both the last one."""

ADD = Statement(
    sa.text(f"""
    INSERT INTO webhook_endpoints
        (id, tenant_id, url, event_types, description, ordering, secret, disabled_at, disabled_reason, created_at,
         updated_at, created_by)
    VALUES (:id, :tenant_id, :url, CAST(:event_types AS text[]), :description, :ordering, :secret,
            CASE WHEN CAST(:disabled AS boolean) THEN statement_timestamp() END,
            CASE WHEN CAST(:disabled AS boolean) THEN 'requested' END, statement_timestamp(), statement_timestamp(),
            :created_by)
    RETURNING {COLUMNS}
    """)  # noqa: S608 - built from constants of this module alone
)

MINE = "tenant_id = :tenant_id AND deleted_at IS NULL"

PAGE = Statement(
    sa.text(f"""
    SELECT {COLUMNS} FROM webhook_endpoints
    WHERE {MINE} AND (CAST(:before_id AS uuid) IS NULL OR id < CAST(:before_id AS uuid))
    ORDER BY id DESC LIMIT :limit
    """)  # noqa: S608 - as above
)

GET = Statement(sa.text(f"SELECT {COLUMNS} FROM webhook_endpoints WHERE id = :id AND {MINE}"))  # noqa: S608 - as above

ENDPOINTS_LOCK = 0x486F6B01
LANES_LOCK = 0x486F6B02
"""Classes of advisory locks ("Hok" in ASCII, and a number)."""

HOLD = Statement(
    sa.text(f"SELECT pg_advisory_xact_lock({ENDPOINTS_LOCK}, hashtext(CAST(:id AS text)) & 255)").bindparams(
        sa.bindparam("id", type_=Id)
    )
)

CHANGE = Statement(
    sa.text(f"""
    UPDATE webhook_endpoints SET
        url = coalesce(CAST(:url AS text), url),
        event_types = coalesce(CAST(:event_types AS text[]), event_types),
        description = CASE WHEN CAST(:keeps_description AS boolean) THEN description ELSE :description END,
        ordering = coalesce(CAST(:ordering AS text), ordering),
        disabled_at = CASE WHEN CAST(:disabled AS boolean) IS NULL THEN disabled_at
                           WHEN CAST(:disabled AS boolean) THEN coalesce(disabled_at, statement_timestamp()) END,
        disabled_reason = CASE WHEN CAST(:disabled AS boolean) IS NULL THEN disabled_reason
                               WHEN CAST(:disabled AS boolean) THEN coalesce(disabled_reason, 'requested') END,
        -- Whoever switches it on again gives it its five days anew.
        failing_since = CASE WHEN CAST(:disabled AS boolean) = false THEN NULL ELSE failing_since END,
        updated_at = statement_timestamp()
    WHERE id = :id AND {MINE} RETURNING {COLUMNS}
    """).bindparams(sa.bindparam("event_types", type_=pg.ARRAY(sa.Text)))  # noqa: S608 - as above
)

ROTATE = Statement(
    sa.text(f"""
    UPDATE webhook_endpoints SET
        old_secret = secret, old_secret_expires_at = statement_timestamp() + interval '{OLD_SECRET_HOURS} hours',
        secret = :secret, updated_at = statement_timestamp()
    WHERE id = :id AND {MINE} RETURNING {COLUMNS}
    """)  # noqa: S608 - as above
)

DELETE = Statement(
    sa.text(f"""
    UPDATE webhook_endpoints SET deleted_at = statement_timestamp(), old_secret = NULL, secret = ''
    WHERE id = :id AND {MINE} RETURNING id
    """)  # noqa: S608 - as above
)

LISTENING = Statement(
    sa.text("""
    SELECT id, tenant_id, event_types, ordering FROM webhook_endpoints
    WHERE tenant_id = ANY (:tenant_ids) AND disabled_at IS NULL AND deleted_at IS NULL ORDER BY id
    """).bindparams(sa.bindparam("tenant_ids", type_=pg.ARRAY(sa.Text)))
)

SHARE_ENDPOINTS = Statement(
    sa.text(f"""
    SELECT count(pg_advisory_xact_lock_shared({ENDPOINTS_LOCK}, bucket)) FROM (
        SELECT DISTINCT hashtext(CAST(id AS text)) & 255 AS bucket FROM unnest(CAST(:endpoint_ids AS uuid[])) AS id
        ORDER BY bucket) buckets
    """)  # noqa: S608 - constants of this module
)

HOLD_LANES = Statement(
    sa.text(f"""
    SELECT count(pg_advisory_xact_lock({LANES_LOCK}, bucket)) FROM (
        SELECT DISTINCT hashtext(CAST(endpoint AS text) || CAST(session AS text)) & 255 AS bucket
        FROM unnest(CAST(:endpoint_ids AS uuid[]), CAST(:session_ids AS uuid[])) AS lane (endpoint, session)
        ORDER BY bucket) buckets
    """)  # noqa: S608 - as above
)
"""In one order for all, so that nobody waits in a circle; and after all endpoints."""


class NewWebhook(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint that is about to be stored; its secret is sealed."""

    id: UUID
    tenant_id: str
    url: str
    event_types: list[EventType]
    description: str | None
    ordering: Ordering
    disabled: bool
    secret: str
    created_by: str | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be different; None keeps."""

    url: str | None = None
    event_types: list[EventType] | None = None
    keeps_description: bool = True
    description: str | None = None
    ordering: Ordering | None = None
    disabled: bool | None = None


class Listener(msgspec.Struct, frozen=True):
    """An endpoint that is told of events now."""

    id: UUID
    tenant_id: str
    event_types: list[str]
    ordering: str


async def count(tx: Tx, tenant_id: str) -> int:
    """How many endpoints a tenant has; whoever counts next waits until this transaction has ended."""
    await tx.value(COUNT_LOCK, tenant_id=tenant_id)
    return int(await tx.value(COUNT, tenant_id=tenant_id))


async def add(tx: Tx, new: NewWebhook) -> Webhook:
    """Store an endpoint."""
    row = await tx.row(ADD, **msgspec.structs.asdict(new))
    if row is None:
        raise LookupError("an insert returned no row")
    return _webhook(row)


async def page(tx: Tx, tenant_id: str, *, before_id: UUID | None, limit: int) -> list[Webhook]:
    """A tenant's endpoints, newest first."""
    return [_webhook(row) for row in await tx.rows(PAGE, tenant_id=tenant_id, before_id=before_id, limit=limit)]


async def get(tx: Tx, tenant_id: str, webhook_id: UUID) -> Webhook | None:
    """One of them."""
    return _webhook_if_any(await tx.row(GET, tenant_id=tenant_id, id=webhook_id))


async def hold(tx: Tx, webhook_id: UUID) -> None:
    """Hold an endpoint alone: nobody makes or finishes deliveries of it until this transaction has ended.

    To be called before anything else of it is locked.
    """
    await tx.value(HOLD, id=webhook_id)


async def change(tx: Tx, tenant_id: str, webhook_id: UUID, wanted: Change) -> Webhook | None:
    """Change one of them."""
    fields: dict[str, Any] = msgspec.structs.asdict(wanted)
    return _webhook_if_any(await tx.row(CHANGE, tenant_id=tenant_id, id=webhook_id, **fields))


async def rotate(tx: Tx, tenant_id: str, webhook_id: UUID, secret: str) -> Webhook | None:
    """Sign with a new secret, which is sealed, from now on, and with the one before for a day."""
    return _webhook_if_any(await tx.row(ROTATE, tenant_id=tenant_id, id=webhook_id, secret=secret))


async def delete(tx: Tx, tenant_id: str, webhook_id: UUID) -> bool:
    """Let it be gone for everybody; its rows follow in batches."""
    return bool(await tx.value(DELETE, tenant_id=tenant_id, id=webhook_id))


async def listening(tx: Tx, tenant_ids: list[str]) -> list[Listener]:
    """The endpoints of these tenants that are told of events."""
    rows = await tx.rows(LISTENING, tenant_ids=tenant_ids)
    return [Listener(row["id"], row["tenant_id"], row["event_types"], row["ordering"]) for row in rows]


async def hold_lanes(tx: Tx, lanes: list[tuple[UUID, UUID]]) -> None:
    """Share these endpoints, and hold these sessions of them: nobody else makes or finishes deliveries there."""
    endpoint_ids = [endpoint_id for endpoint_id, _ in lanes]
    await tx.value(SHARE_ENDPOINTS, endpoint_ids=endpoint_ids)
    await tx.value(HOLD_LANES, endpoint_ids=endpoint_ids, session_ids=[session_id for _, session_id in lanes])


def _webhook_if_any(row: Row | None) -> Webhook | None:
    return None if row is None else _webhook(row)


def _webhook(row: Row) -> Webhook:
    reason = row["disabled_reason"]
    disabled_at: datetime | None = row["disabled_at"]
    return Webhook(
        id=row["id"],
        url=row["url"],
        event_types=[EventType(name) for name in row["event_types"]],
        description=row["description"],
        ordering=Ordering(row["ordering"]),
        disabled=disabled_at is not None,
        disabled_reason=None if reason is None else DisabledReason(reason),
        disabled_at=written_out_if_any(disabled_at),
        failing_since=written_out_if_any(row["failing_since"]),
        old_secret_expires_at=written_out_if_any(row["old_secret_expires_at"]),
        created_at=written_out(row["created_at"]),
        updated_at=written_out(row["updated_at"]),
        created_by=row["created_by"],
    )
