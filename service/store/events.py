"""Events and their outbox: written by the very statement that changes the session."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from service.domain.caller import Caller
from service.domain.event import Actor, ActorKind, Cause, Event, EventType, NewEvent
from service.store.engine import Row, Statement, Tx, written_out
from service.store.page_bytes import ROW_BYTES, PageRows, fits, fitting, so_far

RECORD = """
    told AS (
        INSERT INTO events
            (tenant_id, session_id, seq, id, type, occurred_at, actor_kind, actor_subject, request_id, data)
        SELECT target.tenant_id, target.id, target.last_event_seq - cardinality(CAST(:event_ids AS uuid[])) + fact.n,
               fact.id, fact.type, target.updated_at, :actor_kind, :actor_subject, :request_id, fact.data
        FROM target, unnest(CAST(:event_ids AS uuid[]), CAST(:event_types AS text[]), CAST(:event_data AS json[]))
             WITH ORDINALITY AS fact (id, type, data, n)
        RETURNING tenant_id, session_id, seq, type, occurred_at
    ),
    queued AS (
        INSERT INTO outbox (tenant_id, session_id, event_seq, event_type, recorded_at)
        SELECT tenant_id, session_id, seq, type, occurred_at FROM told ORDER BY seq
    )"""
"""The end of every statement that changes a session, behind a `target` that returned the changed row:

records the events under the numbers that `target` has just taken, and puts each into the outbox.
"""

EVENT_COLUMNS = "e.id, e.type, e.session_id, e.seq, e.occurred_at, e.actor_kind, e.actor_subject, e.request_id, e.data"

WEIGHT = f"""CASE WHEN pg_column_compression(events.data) IS NULL THEN pg_column_size(events.data)
                           ELSE octet_length(CAST(events.data AS text)) END + {ROW_BYTES} AS weight"""
"""Measured without reading it, unless it is compressed: events are thin, so the few large ones may be read for it."""

PAGE = Statement(
    sa.text(f"""
    SELECT {EVENT_COLUMNS}, e.so_far FROM (
        SELECT e.*, {so_far("e.weight", "e.seq")} AS so_far
        FROM sessions s
        LEFT JOIN LATERAL (
            SELECT *, {WEIGHT} FROM events
            WHERE events.session_id = s.id AND events.seq > :after_seq
              AND (CAST(:types AS text[]) IS NULL OR events.type = ANY (CAST(:types AS text[])))
            ORDER BY events.seq
            LIMIT :limit
        ) e ON true
        WHERE s.id = :session_id AND s.tenant_id = :tenant_id
          AND (CAST(:user_id AS text) IS NULL OR s.user_id = CAST(:user_id AS text))
    ) e
    WHERE {fits("e")}
    ORDER BY e.seq
    """).bindparams(sa.bindparam("types", type_=pg.ARRAY(sa.Text)))  # noqa: S608 - built from constants
)

HEAD = Statement(
    sa.text("""
    SELECT last_event_seq, status = 'ended' AS has_ended FROM sessions
    WHERE id = :session_id AND tenant_id = :tenant_id
      AND (CAST(:user_id AS text) IS NULL OR user_id = CAST(:user_id AS text))
    """)
)

BEHIND = Statement(
    sa.text("""
    SELECT watched.id FROM unnest(CAST(:session_ids AS uuid[]), CAST(:seqs AS bigint[])) AS watched (id, seq)
    LEFT JOIN sessions s ON s.id = watched.id
    WHERE s.id IS NULL OR s.last_event_seq > watched.seq
    """)
)


class Head(msgspec.Struct, frozen=True):
    """How far a session's events have come; `has_ended`: no other will follow."""

    last_seq: int
    has_ended: bool


def record_parameters(events: list[NewEvent], cause: Cause) -> dict[str, Any]:
    """The parameters that `RECORD` needs."""
    return {
        "event_ids": [event.id for event in events],
        "event_types": [event.type.value for event in events],
        "event_data": [msgspec.json.encode(event.data).decode() for event in events],
        **cause_parameters(cause),
    }


def cause_parameters(cause: Cause) -> dict[str, Any]:
    """Who asked, and by which request."""
    return {
        "actor_kind": cause.actor.kind.value,
        "actor_subject": cause.actor.subject,
        "request_id": cause.request_id,
    }


async def page(
    tx: Tx, caller: Caller, session_id: UUID, *, after_seq: int, types: list[EventType] | None, limit: int
) -> PageRows[Event] | None:
    """At most `limit` events after `after_seq`, ascending; None when the caller may see no such session."""
    rows = await tx.rows(
        PAGE,
        session_id=session_id,
        tenant_id=caller.tenant_id,
        user_id=caller.sees_user,
        after_seq=after_seq,
        types=types,
        limit=limit,
    )
    if not rows:
        return None
    kept = fitting([row for row in rows if row["id"] is not None])
    return PageRows(map(event_of, kept), is_cut=kept.is_cut)


async def head(tx: Tx, caller: Caller, session_id: UUID) -> Head | None:
    """How far the session's events have come; None when the caller may see no such session."""
    row = await tx.row(HEAD, session_id=session_id, tenant_id=caller.tenant_id, user_id=caller.sees_user)
    return None if row is None else Head(row["last_event_seq"], row["has_ended"])


async def behind(tx: Tx, watched: Sequence[tuple[UUID, int]]) -> list[UUID]:
    """The sessions that have events behind the numbers given with them, or are gone."""
    rows = await tx.rows(
        BEHIND, session_ids=[session_id for session_id, _ in watched], seqs=[seq for _, seq in watched]
    )
    return [row["id"] for row in rows]


def event_of(row: Row) -> Event:
    """The event that a row of `EVENT_COLUMNS` is."""
    return Event(
        id=row["id"],
        type=EventType(row["type"]),
        session_id=row["session_id"],
        seq=row["seq"],
        occurred_at=written_out(row["occurred_at"]),
        actor=Actor(kind=ActorKind(row["actor_kind"]), subject=row["actor_subject"]),
        request_id=row["request_id"],
        data=msgspec.Raw(row["data"]),
    )
