"""Tool calls that were not decided on in time, until that is recorded: whose they are, and which.

Tenants take turns: a batch of each, so that a call waits for no more than a batch of every other tenant.
"""

from __future__ import annotations

from uuid import UUID

import sqlalchemy as sa

from service.store.engine import Statement, Tx

LATE = "c.status = 'pending' AND c.expires_at <= statement_timestamp() AND s.expires_at > statement_timestamp()"
"""Without those of sessions whose time is over: these are recorded with the end of their session, in its order."""

CROWD = 200
"""As many calls that are late are looked at to see whose they are. Where there are more, every tenant is asked."""

TENANTS = Statement(
    sa.text(f"""
    WITH RECURSIVE first AS MATERIALIZED (
        SELECT c.tenant_id FROM tool_calls c JOIN sessions s ON s.id = c.session_id
        WHERE {LATE} ORDER BY c.expires_at LIMIT :crowd
    ), asking (tenant_id) AS (
        -- Every tenant with a pending call, one step of the index each.
        (SELECT tenant_id FROM tool_calls
         WHERE status = 'pending' AND expires_at IS NOT NULL AND (SELECT count(*) FROM first) = :crowd
         ORDER BY tenant_id LIMIT 1)
        UNION ALL
        SELECT (SELECT c.tenant_id FROM tool_calls c
                WHERE c.status = 'pending' AND c.expires_at IS NOT NULL AND c.tenant_id > asking.tenant_id
                ORDER BY c.tenant_id LIMIT 1)
        FROM asking WHERE asking.tenant_id IS NOT NULL
    )
    SELECT tenant_id FROM first
    UNION
    SELECT asking.tenant_id FROM asking CROSS JOIN LATERAL (
        SELECT FROM tool_calls c JOIN sessions s ON s.id = c.session_id
        WHERE c.tenant_id = asking.tenant_id AND {LATE} LIMIT 1) late
    ORDER BY 1
    """).bindparams(sa.bindparam("crowd", type_=sa.Integer))  # noqa: S608 - a constant of this module
)

CALLS = Statement(
    sa.text(f"""
    SELECT c.session_id, c.id FROM tool_calls c JOIN sessions s ON s.id = c.session_id
    WHERE c.tenant_id = :tenant_id AND {LATE}
    ORDER BY c.expires_at LIMIT :limit
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))  # noqa: S608 - as above
)


async def tenants(tx: Tx) -> list[str]:
    """The tenants that have pending calls past their time."""
    return [row["tenant_id"] for row in await tx.rows(TENANTS, crowd=CROWD)]


async def calls(tx: Tx, tenant_id: str, limit: int) -> list[tuple[UUID, UUID]]:
    """Pending calls of a tenant past their time, the first one first: session, call."""
    rows = await tx.rows(CALLS, tenant_id=tenant_id, limit=limit)
    return [(row["session_id"], row["id"]) for row in rows]
