"""Records that pending tool calls have waited past their time. No approval has been taken since that very moment."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from service.commands.tool_calls import expire_tool_call
from service.log import get_logger
from service.store import late_calls
from service.store.engine import Database

BATCH_CALLS_MAX = 50
"""Of one tenant before the next one's turn. Each is a short transaction of its own, under its session's lock."""

LOG = get_logger("expiry")


async def sweep_late_tool_calls(database: Database, on_recorded: Callable[[UUID], None] = lambda _: None) -> int:
    """Expire all pending calls that are past their time, a batch of each tenant in turns; how many.

    `on_recorded` is called with each one's session.
    """
    total = 0
    while True:
        async with database.connect() as tx:
            tenants = await late_calls.tenants(tx)
        expired = 0
        for tenant_id in tenants:
            expired += await _expire_some(database, tenant_id, on_recorded)
        total += expired
        if not expired:
            if total:
                LOG.info("expiry.tool_calls_swept", tool_calls=total)
            return total


async def _expire_some(database: Database, tenant_id: str, on_recorded: Callable[[UUID], None]) -> int:
    async with database.connect() as tx:
        late = await late_calls.calls(tx, tenant_id, BATCH_CALLS_MAX)
    expired = 0
    for session_id, call_id in late:
        async with database.begin() as tx:
            has_expired = await expire_tool_call(tx, tenant_id, session_id, call_id)
        if has_expired:
            on_recorded(session_id)
        expired += has_expired
    return expired
