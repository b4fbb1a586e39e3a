"""Tidies up behind webhooks: what waits for a disabled one, what a deleted one leaves, what has been over for long."""

from __future__ import annotations

from service.log import get_logger
from service.store import delivery_pages
from service.store.engine import Database

ROWS_AT_A_TIME = 1000
"""Milliseconds each, so that no lock is held for long."""

LOG = get_logger("delivery")


async def sweep_deliveries(database: Database) -> int:
    """Cancel, delete and forget, in batches, until nothing is left to do; how many rows.

    Raises:
        Unavailable: PostgreSQL is away; the next run goes on.
    """
    tidied = 0
    for step in (delivery_pages.cancel_some, delivery_pages.erase_some, delivery_pages.forget_some):
        done = 1
        while done:
            async with database.begin() as tx:
                done = await step(tx, ROWS_AT_A_TIME)
            tidied += done
    if tidied:
        LOG.info("delivery.tidied", rows=tidied)
    return tidied
