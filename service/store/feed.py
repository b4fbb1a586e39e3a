"""The order of events across sessions: a position for each, given by the relay, one after the other.

A number that writers take would not do: one that commits late would be skipped by whoever has read past it. The relay
is alone, and numbers what it finds committed, in the transaction that takes it out of the outbox.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from service.domain.event import Event
from service.store.engine import Statement, Tx
from service.store.events import EVENT_COLUMNS, event_of
from service.store.outbox import OutboxRow

RECORD = Statement(
    sa.text("""
    WITH placed AS (
        INSERT INTO event_positions (tenant_id, position, session_id, event_seq, user_id)
        SELECT s.tenant_id, :before + fact.n, s.id, fact.event_seq, s.user_id
        FROM unnest(CAST(:session_ids AS uuid[]), CAST(:event_seqs AS bigint[]))
             WITH ORDINALITY AS fact (session_id, event_seq, n)
        JOIN sessions s ON s.id = fact.session_id
        RETURNING tenant_id, user_id
    )
    SELECT DISTINCT tenant_id, user_id FROM placed
    """).bindparams(sa.bindparam("before", type_=sa.BigInteger))
)

HEAD = Statement(sa.text("SELECT relayed_total FROM relay_progress WHERE id = 1"))

PAGES = {
    is_users: Statement(
        sa.text(f"""
        SELECT p.position, {EVENT_COLUMNS}
        FROM event_positions p JOIN events e ON e.session_id = p.session_id AND e.seq = p.event_seq
        WHERE p.tenant_id = :tenant_id {"AND p.user_id = :user_id" if is_users else ""} AND p.position > :after
        ORDER BY p.position LIMIT :limit
        """)  # noqa: S608 - built from constants
    )
    for is_users in (False, True)
}
"""By whether a user's own events are asked for: each has an index."""

BEHIND = Statement(
    sa.text("""
    SELECT view.n FROM unnest(CAST(:tenant_ids AS text[]), CAST(:user_ids AS text[]), CAST(:positions AS bigint[]))
                       WITH ORDINALITY AS view (tenant_id, user_id, position, n)
    WHERE view.user_id IS NULL AND EXISTS (
              SELECT FROM event_positions p WHERE p.tenant_id = view.tenant_id AND p.position > view.position)
       OR view.user_id IS NOT NULL AND EXISTS (
              SELECT FROM event_positions p
              WHERE p.tenant_id = view.tenant_id AND p.user_id = view.user_id AND p.position > view.position)
    """).bindparams(sa.bindparam("user_ids", type_=pg.ARRAY(sa.Text)))
)


class View(msgspec.Struct, frozen=True):
    """Whose events: all of a tenant, or those of one user's sessions."""

    tenant_id: str
    user_id: str | None


async def record(tx: Tx, rows: Sequence[OutboxRow], before: int) -> set[View]:
    """Give the rows, in their order, the positions that follow `before`; the views in which they appear.

    Events of a session that has been purged meanwhile get none.
    """
    placed = await tx.rows(
        RECORD,
        before=before,
        session_ids=[row.session_id for row in rows],
        event_seqs=[row.event_seq for row in rows],
    )
    return {View(row["tenant_id"], user_id) for row in placed for user_id in (None, row["user_id"])}


async def head(tx: Tx) -> int:
    """The last position that has been given."""
    return int(await tx.value(HEAD) or 0)


async def page(tx: Tx, view: View, *, after: int, limit: int) -> list[tuple[int, Event]]:
    """At most `limit` events of a view behind the position `after`, each with its position, ascending."""
    mine = {} if view.user_id is None else {"user_id": view.user_id}
    rows = await tx.rows(PAGES[view.user_id is not None], tenant_id=view.tenant_id, after=after, limit=limit, **mine)
    return [(row["position"], event_of(row)) for row in rows]


async def behind(tx: Tx, views: Sequence[tuple[View, int]]) -> list[View]:
    """The views that have events behind the positions given with them."""
    rows = await tx.rows(
        BEHIND,
        tenant_ids=[view.tenant_id for view, _ in views],
        user_ids=[view.user_id for view, _ in views],
        positions=[position for _, position in views],
    )
    return [views[row["n"] - 1][0] for row in rows]
