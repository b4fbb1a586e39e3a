"""Open tool calls that are cut off together: read and stored in batches, without their payloads."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from service.domain.tool_call import ToolCall
from service.store.engine import Statement, Tx
from service.store.tool_call_rows import LATE, STORED, call_of

PAYLOADS = ("c.arguments, c.original_arguments", "c.result")
STORED_BARE = STORED.replace(PAYLOADS[0], "'{}' AS arguments, NULL AS original_arguments").replace(
    PAYLOADS[1], "NULL AS result"
)
"""A stored call without what callers gave to it: what becomes of it does not depend on that."""

OPEN_OF_SESSION = Statement(
    sa.text(f"""
    SELECT {STORED_BARE}, {LATE} AS is_late FROM tool_calls c JOIN sessions s ON s.id = c.session_id
    WHERE c.session_id = :session_id AND c.status IN ('pending', 'approved', 'running')
      AND c.id > CAST(:after_id AS uuid)
      AND (CAST(:message_id AS uuid) IS NULL OR c.message_id = CAST(:message_id AS uuid))
    ORDER BY c.id LIMIT :limit
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))  # noqa: S608 - column lists of our own
)

SAVE_CUT_OFF = Statement(
    sa.text("""
    UPDATE tool_calls c SET
        status = n.status, reason = n.reason, error = n.error, version = n.version,
        size = c.size + coalesce(octet_length(n.reason), 0) - coalesce(octet_length(c.reason), 0)
                      + coalesce(octet_length(n.error), 0) - coalesce(octet_length(c.error), 0)
    FROM unnest(CAST(:ids AS uuid[]), CAST(:statuses AS text[]), CAST(:reasons AS text[]), CAST(:errors AS text[]),
                CAST(:versions AS bigint[])) AS n (id, status, reason, error, version)
    WHERE c.session_id = :session_id AND c.id = n.id
    """)
)


async def open_of_session(
    tx: Tx, session_id: UUID, message_id: UUID | None, after_id: UUID, limit: int
) -> list[tuple[ToolCall, bool]]:
    """At most `limit` open calls of a locked session, or of one of its messages, in the order of their ids behind one.

    Each without its payloads, and whether its time to be decided is over.
    """
    rows = await tx.rows(OPEN_OF_SESSION, session_id=session_id, message_id=message_id, after_id=after_id, limit=limit)
    return [(call_of(row), row["is_late"]) for row in rows]


async def save(tx: Tx, session_id: UUID, calls: list[ToolCall]) -> None:
    """Store that open calls of a locked session were cut off or have expired; their payloads stay as they are."""
    await tx.rows(
        SAVE_CUT_OFF,
        session_id=session_id,
        ids=[call.id for call in calls],
        statuses=[call.status.value for call in calls],
        reasons=[call.reason for call in calls],
        errors=[call.error for call in calls],
        versions=[call.version for call in calls],
    )
