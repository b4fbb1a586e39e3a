"""How far back the last messages may reach before they are more than one answer should hold."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from service.store.engine import Statement, Tx

FIRST_SEQ = Statement(
    sa.text("""
    SELECT min(seq) FROM (
        SELECT seq, size, sum(size) OVER (ORDER BY seq DESC) AS so_far FROM (
            SELECT m.seq, octet_length(CAST(m.content AS text)) + CASE WHEN m.tool_call_count = 0 THEN 0 ELSE (
                       SELECT sum(octet_length(CAST(c.arguments AS text))
                                  + coalesce(octet_length(CAST(c.result AS text)), 0))
                       FROM tool_calls c WHERE c.session_id = m.session_id AND c.message_id = m.id) END AS size
            FROM messages m
            WHERE m.session_id = :session_id AND m.tenant_id = :tenant_id AND m.deleted_at IS NULL
            ORDER BY m.seq DESC LIMIT :limit
        ) sized
    ) summed WHERE so_far <= :bytes_max OR so_far = size
    """).bindparams(sa.bindparam("limit", type_=sa.Integer), sa.bindparam("bytes_max", type_=sa.BigInteger))
)


async def first_seq(tx: Tx, tenant_id: str, session_id: UUID, *, limit: int, bytes_max: int) -> int:
    """The oldest of the last `limit` messages that fits into `bytes_max` together with all that follow it.

    The newest one always does. 1 when there are none.
    """
    found: int | None = await tx.value(
        FIRST_SEQ, tenant_id=tenant_id, session_id=session_id, limit=limit, bytes_max=bytes_max
    )
    return found or 1
