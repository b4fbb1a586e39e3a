"""Records that pending tool calls have waited past their time. No approval has been taken since that very moment."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from service.commands.tool_calls import expire_tool_call
from service.log import get_logger
from service.store import tool_calls
from service.store.engine import Database

BATCH_CALLS_MAX = 200
"""Each call is a short transaction of its own, under its session's lock."""

LOG = get_logger("expiry")


async def sweep_late_tool_calls(database: Database, on_recorded: Callable[[UUID], None] = lambda _: None) -> int:
    """Expire all pending calls that are past their time; how many. `on_recorded` is called with each one's session."""
    total = 0
    while True:
        async with database.connect() as tx:
            late = await tool_calls.late_calls(tx, BATCH_CALLS_MAX)
        expired = 0
        for tenant_id, session_id, call_id in late:
            async with database.begin() as tx:
                has_expired = await expire_tool_call(tx, tenant_id, session_id, call_id)
            if has_expired:
                on_recorded(session_id)
            expired += has_expired
        total += expired
        if len(late) < BATCH_CALLS_MAX or not expired:
            if total:
                LOG.info("expiry.tool_calls_swept", tool_calls=total)
            return total
