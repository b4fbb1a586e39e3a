"""Forgets idempotency keys whose 24 hours are over."""

from __future__ import annotations

from service.store import idempotency
from service.store.engine import Database

BATCH_KEYS_MAX = 1000


async def sweep_idempotency_keys(database: Database) -> int:
    """Delete all keys past their time; how many."""
    total = 0
    while True:
        async with database.begin() as tx:
            gone = await idempotency.forget(tx, BATCH_KEYS_MAX)
        total += gone
        if gone < BATCH_KEYS_MAX:
            return total
