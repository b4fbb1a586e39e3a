"""Records the end of sessions whose time is over. Readers have seen them as ended since that very moment."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from service.commands.sessions import expire_sessions
from service.log import get_logger
from service.store.engine import Database

BATCH_SESSIONS_MAX = 200
"""Short transactions: a session that is locked by a request is left for the next sweep."""

LOG = get_logger("expiry")


async def sweep_expired_sessions(database: Database, on_recorded: Callable[[UUID], None] = lambda _: None) -> int:
    """End all sessions that are past their time; how many. `on_recorded` is called with each once that is committed."""
    total = 0
    while True:
        async with database.begin() as tx:
            ended = await expire_sessions(tx, BATCH_SESSIONS_MAX)
        for session_id in ended:
            on_recorded(session_id)
        total += len(ended)
        if len(ended) < BATCH_SESSIONS_MAX:
            if total:
                LOG.info("expiry.swept", sessions=total)
            return total
