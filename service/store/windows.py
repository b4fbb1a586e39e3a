"""Which messages a context has: the newest, what they answer, and those of the system."""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from service.store.engine import Statement, Tx

SYSTEM_MESSAGES_MAX = 1000
"""The newest of the system's messages; a session has one or a few of them."""

WINDOW = Statement(
    sa.text("""
    WITH of_the_system AS (
        SELECT seq, size FROM (
            SELECT seq, size, sum(size) OVER (ORDER BY seq DESC) AS so_far FROM (
                SELECT m.seq, octet_length(CAST(m.content AS text)) AS size
                FROM messages m
                WHERE m.session_id = :session_id AND m.tenant_id = :tenant_id AND m.deleted_at IS NULL
                  AND m.role IN ('system', 'developer')
                ORDER BY m.seq DESC LIMIT :system_messages_max
            ) sized
        ) summed WHERE so_far <= :system_bytes_max OR so_far = size
    ),
    counted AS (
        SELECT m.seq, coalesce(asking.seq, m.seq) AS turn_seq
        FROM messages m
        LEFT JOIN LATERAL (
            SELECT a.seq FROM tool_calls c JOIN messages a ON a.session_id = c.session_id AND a.id = c.message_id
            WHERE c.session_id = m.session_id AND c.id = m.tool_call_id AND a.deleted_at IS NULL
            LIMIT 1
        ) asking ON true
        WHERE m.session_id = :session_id AND m.tenant_id = :tenant_id AND m.deleted_at IS NULL
          AND m.role NOT IN ('system', 'developer') AND (m.tool_call_id IS NULL OR asking.seq IS NOT NULL)
        ORDER BY m.seq DESC LIMIT :limit
    ),
    turns AS MATERIALIZED (
        SELECT m.seq, m.id, m.tool_call_count, turn.newest_seq,
               octet_length(CAST(m.content AS text)) + CASE WHEN m.tool_call_count = 0 THEN 0 ELSE (
                   SELECT sum(octet_length(CAST(c.arguments AS text))
                              + coalesce(octet_length(CAST(c.result AS text)), 0)
                              + coalesce((SELECT sum(octet_length(CAST(r.content AS text))) FROM messages r
                                          WHERE r.session_id = c.session_id AND r.tool_call_id = c.id), 0))
                   FROM tool_calls c WHERE c.session_id = m.session_id AND c.message_id = m.id) END AS size
        FROM (SELECT turn_seq, max(seq) AS newest_seq FROM counted GROUP BY turn_seq) turn
        JOIN messages m ON m.session_id = :session_id AND m.seq = turn.turn_seq
    ),
    fitting AS (
        SELECT seq, id, tool_call_count
        FROM (SELECT *, sum(size) OVER (ORDER BY newest_seq DESC) AS so_far FROM turns) summed
        WHERE so_far <= :bytes_max - (SELECT coalesce(sum(size), 0) FROM of_the_system) OR so_far = size
    )
    SELECT seq FROM of_the_system
    UNION ALL SELECT seq FROM fitting
    UNION ALL
    SELECT result.seq FROM fitting
    CROSS JOIN LATERAL (
        SELECT r.seq FROM tool_calls c JOIN messages r ON r.session_id = c.session_id AND r.tool_call_id = c.id
        WHERE c.session_id = :session_id AND c.message_id = fitting.id AND r.deleted_at IS NULL
    ) result
    WHERE fitting.tool_call_count > 0
    """).bindparams(
        sa.bindparam("limit", type_=sa.Integer),
        sa.bindparam("bytes_max", type_=sa.BigInteger),
        sa.bindparam("system_bytes_max", type_=sa.BigInteger),
        sa.bindparam("system_messages_max", type_=sa.Integer),
    )
)
"""A turn is a message with all that belongs to it: an assistant's with its calls and their results, or any other one

alone. It is as new as the newest message of it that is counted. A result whose asking message was deleted is not
counted, for it is not shown. `LIMIT 1` keeps the search for an asking message a look-up for each result: so messages
are read by their numbers, from the newest on, until there are enough.
"""


async def window(
    tx: Tx, tenant_id: str, session_id: UUID, *, limit: int, bytes_max: int, system_bytes_max: int
) -> list[int]:
    """The numbers of the messages that a context has, in any order.

    They are the newest `limit` of those that are not the system's, the messages that asked for the results among them,
    with all their results, and the messages of the system. What is too much is left out, the oldest first: of the
    system's what exceeds `system_bytes_max`, then of the others what exceeds `bytes_max` together with the system's.
    The newest message of the system stays, however large it is, and so does the newest other one.
    """
    rows = await tx.rows(
        WINDOW,
        tenant_id=tenant_id,
        session_id=session_id,
        limit=limit,
        bytes_max=bytes_max,
        system_bytes_max=system_bytes_max,
        system_messages_max=SYSTEM_MESSAGES_MAX,
    )
    return [row["seq"] for row in rows]
