"""What copies of answers are made from: a session and its newest messages, each with the last event that they know."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import sqlalchemy as sa

from service.domain.attachment import ENDS
from service.domain.message import Message
from service.domain.session import Session
from service.domain.tool_call import CallStatus
from service.store import message_pages, messages, session_rows
from service.store.engine import Database, Statement, Tx
from service.store.page_bytes import PageRows, fits, so_far
from service.store.tables import Id
from service.store.tables import sessions as s

WINDOW_MESSAGES = 50
"""What a copy of the newest messages holds: the page that is asked for by default."""

LASTING = """CASE WHEN s.status = 'ended' THEN NULL
          ELSE greatest(0, extract(epoch FROM s.expires_at - statement_timestamp()) * 1000)::bigint END"""
"""Milliseconds until time alone ends the session; NULL: time changes nothing any more."""

SNAPSHOT = Statement(
    sa.select(
        *session_rows.COLUMNS,
        s.c.last_event_seq,
        sa.literal_column(LASTING.replace("s.", "sessions.")).label("lasting_ms"),
    ).where(s.c.id == sa.bindparam("session_id", type_=Id), s.c.tenant_id == sa.bindparam("tenant_id", type_=sa.Text))
)

SMALL_WINDOW = Statement(
    sa.text(f"""
    SELECT {message_pages.SMALL_COLUMNS}, s.user_id, s.last_event_seq, {LASTING} AS lasting_ms,
           statement_timestamp() AS now
    FROM sessions s
    LEFT JOIN LATERAL (
        SELECT * FROM messages WHERE messages.session_id = s.id AND messages.deleted_at IS NULL
        ORDER BY messages.seq DESC LIMIT :limit
    ) m ON true
    WHERE s.id = :session_id AND s.tenant_id = :tenant_id
    ORDER BY m.seq DESC
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))  # noqa: S608 - built from constants
)

WINDOW = Statement(
    sa.text(f"""
    SELECT {messages.COLUMNS}, m.weight, m.so_far, m.user_id, m.last_event_seq, m.lasting_ms, m.now FROM (
        SELECT s.user_id, s.last_event_seq, {LASTING} AS lasting_ms, statement_timestamp() AS now, m.*,
               {so_far("m.weight", "m.seq DESC")} AS so_far
        FROM sessions s
        LEFT JOIN LATERAL (
            SELECT *, {message_pages.WEIGHT} FROM messages
            WHERE messages.session_id = s.id AND messages.deleted_at IS NULL
            ORDER BY messages.seq DESC LIMIT :limit
        ) m ON true
        WHERE s.id = :session_id AND s.tenant_id = :tenant_id
    ) m
    WHERE {fits("m")}
    ORDER BY m.seq DESC
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))  # noqa: S608 - built from constants
)

SECRET = Statement(sa.text("SELECT secret FROM cache_state WHERE id = 1"))

COUNT = Statement(
    sa.text("""
    UPDATE cache_state SET sampled_total = sampled_total + :sampled, stale_total = stale_total + :stale WHERE id = 1
    """).bindparams(sa.bindparam("sampled", type_=sa.Integer), sa.bindparam("stale", type_=sa.Integer))
)

COUNTED = Statement(sa.text("SELECT sampled_total, stale_total FROM cache_state WHERE id = 1"))

TENANTS = Statement(sa.text("SELECT id, tenant_id FROM sessions WHERE id = ANY (CAST(:session_ids AS uuid[]))"))


class SessionRead(msgspec.Struct, frozen=True):
    """A session at one moment, the number of its last event, and for how long time alone leaves it as it is."""

    session: Session
    seq: int
    lasting_ms: int | None


class MessagesRead(msgspec.Struct, frozen=True):
    """The newest messages of a session at one moment; the rest as in `SessionRead`."""

    user_id: str
    messages: PageRows[Message]
    seq: int
    lasting_ms: int | None


class Counted(msgspec.Struct, frozen=True):
    """How many copies were ever compared with what is stored, and how many of them were stale."""

    sampled_total: int
    stale_total: int


async def snapshot(tx: Tx, tenant_id: str, session_id: UUID) -> SessionRead | None:
    """A session of the tenant, whoever's it is."""
    row = await tx.row(SNAPSHOT, session_id=session_id, tenant_id=tenant_id)
    return None if row is None else SessionRead(session_rows.session_of(row), row["last_event_seq"], row["lasting_ms"])


async def newest_messages(tx: Tx, tenant_id: str, session_id: UUID, most: int = WINDOW_MESSAGES) -> MessagesRead | None:
    """The newest messages of a session of the tenant, whoever's it is: `most`, and one more if there is one.

    Fewer, where they would be too large for a page.

    Their calls and files are read by statements of their own, a moment later. What a change between makes of them, the
    change's own writer deletes before anybody is told of it: it knows more than `seq`.
    """
    wanted = {"session_id": session_id, "tenant_id": tenant_id, "limit": most + 1}
    rows = await message_pages.small_or_fitting(tx, SMALL_WINDOW, WINDOW, wanted)
    if not rows:
        return None
    spoken = PageRows([row for row in rows if row["id"] is not None], is_cut=rows.is_cut)
    found = await message_pages.whole(tx, session_id, spoken)
    lasting_ms: int | None = rows[0]["lasting_ms"]
    ends = [_lasting_ms(message, rows[0]["now"]) for message in found]
    lasting_ms = min((ms for ms in (lasting_ms, *ends) if ms is not None), default=None)
    return MessagesRead(rows[0]["user_id"], found, rows[0]["last_event_seq"], lasting_ms)


def _lasting_ms(message: Message, now: datetime) -> int | None:
    """How long a message is shown as it is unless an event says otherwise; None: for good.

    A file that is being looked into shows its progress, which no event tells of.
    """
    if any(file.status not in ENDS and file.deleted_at is msgspec.UNSET for file in message.attachments):
        return 0
    waits = [call.expires_at for call in message.tool_calls if call.status is CallStatus.PENDING]
    return min((int((end - now).total_seconds() * 1000) for end in waits if end is not None), default=None)


async def read_secret(database: Database) -> bytes | None:
    """What copies are sealed with, the same for all processes; None: the schema is older than this code.

    Raises:
        Unavailable: PostgreSQL is away.
    """
    async with database.connect() as tx:
        try:
            found: bytes | None = await tx.value(SECRET)
        except asyncpg.UndefinedTableError:
            return None
    return found


async def count(tx: Tx, *, sampled: int, stale: int) -> None:
    """Add to what was found."""
    await tx.rows(COUNT, sampled=sampled, stale=stale)


async def counted(tx: Tx) -> Counted:
    """What was ever found."""
    row = await tx.row(COUNTED)
    return Counted(0, 0) if row is None else Counted(row["sampled_total"], row["stale_total"])


async def tenants(tx: Tx, session_ids: list[UUID]) -> dict[UUID, Any]:
    """Whose sessions these are; those that are gone are missing."""
    rows = await tx.rows(TENANTS, session_ids=session_ids)
    return {row["id"]: row["tenant_id"] for row in rows}
