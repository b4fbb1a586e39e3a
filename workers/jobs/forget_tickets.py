"""Forgets tickets for streams that nobody used in their minute."""

from __future__ import annotations

from service.store import tickets
from service.store.engine import Database


async def sweep_tickets(database: Database) -> int:
    """Delete all tickets past their time; how many."""
    async with database.begin() as tx:
        return await tickets.forget(tx)
