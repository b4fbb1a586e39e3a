"""A tool call as its row shows it at a moment: time has its effect whether or not the sweep has recorded it."""

from __future__ import annotations

import msgspec

from service.domain.tool_call import SESSION_EXPIRED, CallStatus, ToolCall
from service.store.engine import Row, written_out, written_out_if_any
from service.store.page_bytes import ROW_BYTES

OVER = "(s.status <> 'ended' AND s.expires_at <= statement_timestamp())"
LATE = "coalesce(c.status = 'pending' AND c.expires_at <= least(s.expires_at, statement_timestamp()), false)"
"""Waited past its time, and that was before its session's was over: what came first stays true."""

CUT = f"({OVER} AND c.status IN ('pending', 'approved', 'running') AND NOT {LATE})"


def _columns(status: str, reason: str, error: str, version: str) -> str:
    return f"""c.id, c.session_id, c.message_id, c.provider_call_id, c.tool_name, c.arguments, c.original_arguments,
    c.requires_approval, {status} AS status, c.decided_by, c.decided_at, {reason} AS reason, c.expires_at, c.started_at,
    c.executed_at, c.result, {error} AS error, c.created_at, {version} AS version"""


EFFECTIVE_STATUS = f"CASE WHEN {LATE} THEN 'expired' WHEN {CUT} THEN 'cancelled' ELSE c.status END"
COLUMNS = _columns(
    EFFECTIVE_STATUS,
    f"CASE WHEN {CUT} AND c.decided_by IS NULL THEN '{SESSION_EXPIRED}' ELSE c.reason END",
    f"CASE WHEN {CUT} AND c.decided_by IS NOT NULL THEN '{SESSION_EXPIRED}' ELSE c.error END",
    f"c.version + CASE WHEN {CUT} OR {LATE} THEN 1 ELSE 0 END",
)
"""A call as it is at this moment: time has its effect whether or not the sweep has recorded it."""

STORED = _columns("c.status", "c.reason", "c.error", "c.version")
"""A call as it stands in the table: what a command decides on, under the session's lock."""

WEIGHT = f"""coalesce(c.size, octet_length(CAST(c.arguments AS text))
    + coalesce(octet_length(CAST(c.original_arguments AS text)), 0) + coalesce(octet_length(CAST(c.result AS text)), 0)
    + coalesce(octet_length(c.error), 0) + coalesce(octet_length(c.reason), 0)) + {ROW_BYTES} AS weight"""
"""The bytes of a call, for pages that end at a size."""

STATUSES = {status.value: status for status in CallStatus}


def call_of(row: Row) -> ToolCall:
    """The call that a row of `COLUMNS` is."""
    return ToolCall(
        id=row["id"],
        session_id=row["session_id"],
        message_id=row["message_id"],
        provider_call_id=row["provider_call_id"],
        tool_name=row["tool_name"],
        arguments=msgspec.Raw(row["arguments"]),
        original_arguments=_raw(row["original_arguments"]),
        requires_approval=row["requires_approval"],
        status=STATUSES[row["status"]],
        decided_by=row["decided_by"],
        decided_at=written_out_if_any(row["decided_at"]),
        reason=row["reason"],
        expires_at=written_out_if_any(row["expires_at"]),
        started_at=written_out_if_any(row["started_at"]),
        executed_at=written_out_if_any(row["executed_at"]),
        result=_raw(row["result"]),
        error=row["error"],
        created_at=written_out(row["created_at"]),
        version=row["version"],
    )


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text)
