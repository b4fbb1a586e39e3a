"""Estimates how many bytes of rows each tenant has, once a minute."""

from __future__ import annotations

from service.store import row_estimates
from service.store.engine import Database


async def sweep_row_estimates(database: Database) -> int:
    """Take a sample and record what it says, unless another worker has just done so; how many tenants were met.

    Raises:
        Unavailable: PostgreSQL is away; the next run estimates anew.
    """
    async with database.connect() as tx:
        if await row_estimates.is_young(tx):
            return 0
        found, is_whole = await row_estimates.sample(tx)
    async with database.begin() as tx:
        await row_estimates.record(tx, found, is_whole=is_whole)
    return len(found)
