"""Records the end of sessions whose time is over. Readers have seen them as ended since that very moment."""

from __future__ import annotations

from service.commands.sessions import expire_sessions
from service.log import get_logger
from service.store.engine import Database

BATCH_SESSIONS_MAX = 200
"""Short transactions: a session that is locked by a request is left for the next sweep."""

LOG = get_logger("expiry")


async def sweep_expired_sessions(database: Database) -> int:
    """End all sessions that are past their time; how many."""
    total = 0
    while True:
        async with database.begin() as tx:
            ended = await expire_sessions(tx, BATCH_SESSIONS_MAX)
        total += ended
        if ended < BATCH_SESSIONS_MAX:
            if total:
                LOG.info("expiry.swept", sessions=total)
            return total
