"""A session as its row shows it at a moment, and who may see it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import FromClause

from service.domain.session import EndReason, Session, SessionConfig, Status
from service.store.engine import Row, written_out, written_out_if_any
from service.store.tables import Time
from service.store.tables import sessions as s

NOW = sa.func.statement_timestamp(type_=Time)


def is_over(row: FromClause, now: ColumnElement[datetime]) -> ColumnElement[bool]:
    """Past its time, whether or not the sweep has recorded it: every read shows it as the sweep will store it."""
    return sa.and_(row.c.status != "ended", row.c.expires_at <= now)


def status_at(row: FromClause, now: ColumnElement[datetime]) -> ColumnElement[str]:
    """Its status at the moment `now`."""
    return sa.case((is_over(row, now), "ended"), else_=row.c.status)


def updated_at(row: FromClause, now: ColumnElement[datetime]) -> ColumnElement[datetime]:
    """When it changed last, seen at the moment `now`: running out is a change."""
    return sa.case((is_over(row, now), row.c.expires_at), else_=row.c.updated_at)


def columns_at(row: FromClause, now: ColumnElement[datetime]) -> list[ColumnElement[Any]]:
    """A session as it is at the moment `now`, in the field order of `Session` (a test pins the two together)."""
    over = is_over(row, now)
    return [
        row.c.id,
        row.c.user_id,
        row.c.agent_id,
        status_at(row, now).label("status"),
        row.c.title,
        row.c.external_id,
        row.c.config,
        row.c.metadata,
        row.c.tags,
        row.c.message_count,
        row.c.attachment_count,
        sa.case((over, 0), else_=row.c.pending_tool_call_count).label("pending_tool_call_count"),
        sa.case((over, row.c.version + 1), else_=row.c.version).label("version"),
        row.c.created_at,
        updated_at(row, now).label("updated_at"),
        row.c.last_message_at,
        row.c.expires_at,
        sa.case((over, row.c.expires_at), else_=row.c.ended_at).label("ended_at"),
        sa.case((over, "expired"), else_=row.c.end_reason).label("end_reason"),
    ]


COLUMNS = columns_at(s, NOW)
EFFECTIVE_STATUS = status_at(s, NOW)
EFFECTIVE_UPDATED_AT = updated_at(s, NOW)

VISIBLE = sa.and_(
    s.c.tenant_id == sa.bindparam("tenant_id", type_=sa.Text),
    sa.or_(
        sa.bindparam("user_id", type_=sa.Text).is_(None),
        s.c.user_id == sa.bindparam("user_id", type_=sa.Text),
    ),
)
"""The 404 rule: what the caller may not see does not exist."""

VISIBLE_SESSION = """s.id = :session_id AND s.tenant_id = :tenant_id
      AND (CAST(:user_id AS text) IS NULL OR s.user_id = CAST(:user_id AS text))"""
"""The same rule for one session, in statements that are written out."""

STATUSES = {status.value: status for status in Status}
CONFIG = msgspec.json.Decoder(SessionConfig)


def session_of(row: Row) -> Session:
    """The session that a row of `COLUMNS` is."""
    end_reason = row["end_reason"]
    return Session(
        row["id"],
        row["user_id"],
        row["agent_id"],
        STATUSES[row["status"]],
        row["title"],
        row["external_id"],
        CONFIG.decode(row["config"]),
        msgspec.Raw(row["metadata"].encode()),
        row["tags"],
        row["message_count"],
        row["attachment_count"],
        row["pending_tool_call_count"],
        row["version"],
        written_out(row["created_at"]),
        written_out(row["updated_at"]),
        written_out_if_any(row["last_message_at"]),
        written_out(row["expires_at"]),
        written_out_if_any(row["ended_at"]),
        None if end_reason is None else EndReason(end_reason),
    )
