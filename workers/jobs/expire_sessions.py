"""Records the end of sessions whose time is over. Readers have seen them as ended since that very moment."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from service.commands.sessions import expire_sessions
from service.log import get_logger
from service.store import expiry
from service.store.engine import Database

BATCH_SESSIONS_MAX = 200
"""Of one tenant before the next one's turn, in a short transaction.

A session that is locked by a request is left for the next sweep.
"""

LOG = get_logger("expiry")


async def sweep_expired_sessions(database: Database, on_recorded: Callable[[UUID], None] = lambda _: None) -> int:
    """End all sessions that are past their time, a batch of each tenant in turns; how many.

    `on_recorded` is called with each once that is committed.
    """
    total = 0
    while True:
        async with database.connect() as tx:
            tenants = await expiry.due_tenants(tx)
        ended = 0
        for tenant_id in tenants:
            ended += await _expire_some(database, tenant_id, on_recorded)
        total += ended
        if not ended:
            if total:
                LOG.info("expiry.swept", sessions=total)
            return total


async def _expire_some(database: Database, tenant_id: str, on_recorded: Callable[[UUID], None]) -> int:
    async with database.begin() as tx:
        ended = await expire_sessions(tx, tenant_id, BATCH_SESSIONS_MAX)
    for session_id in ended:
        on_recorded(session_id)
    return len(ended)
