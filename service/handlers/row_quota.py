"""The tenants that have as many bytes of rows as they may: no write asks PostgreSQL for that."""

from __future__ import annotations

import time

from service.domain.errors import RowsFull, Unavailable
from service.store import row_estimates
from service.store.engine import Database

TRUSTED_SECONDS = 10.0
"""How long a process goes by what it has read; the estimates themselves are made once a minute."""


class RowQuota:
    """Refuses what adds rows to a tenant that is beyond `quota` bytes; None: nobody is."""

    def __init__(self, database: Database, quota: int | None) -> None:
        self._database = database
        self._quota = quota
        self._beyond: frozenset[str] = frozenset()
        self._read_at = float("-inf")

    async def refresh(self) -> None:
        """Read again who is, where that was read too long ago. Before a connection is taken for something else."""
        now = time.monotonic()
        if self._quota is None or now - self._read_at <= TRUSTED_SECONDS:
            return
        self._read_at = now  # whoever comes meanwhile goes by what was read before
        try:
            async with self._database.connect() as tx:
                self._beyond = await row_estimates.beyond(tx, self._quota)
        except Unavailable:  # the write itself says so
            return

    def refuse_if_full(self, tenant_id: str) -> None:
        """Refuse to add rows. Not before it is known that the request is no repetition, whose answer is kept.

        Raises:
            RowsFull: the tenant has reached its quota.
        """
        if tenant_id in self._beyond:
            raise RowsFull
