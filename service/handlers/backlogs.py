"""What the metrics say of the database: read anew for those that ask, in one read for all that wait together."""

from __future__ import annotations

import asyncio

from service.domain.errors import Unavailable
from service.metrics import Metrics
from service.store import copies, deliveries, heartbeats, inspections, outbox, row_estimates
from service.store.engine import Database

TENANTS_SHOWN_MAX = 20
"""Tenants that the metrics name: those with the most bytes of rows. A series for each of them all would be too many."""


class Backlogs:
    """The gauges of the metrics that PostgreSQL knows.

    However many ask for them, there is one read at a time: the page needs no credentials, and 200 of its readers took
    all connections of the database (measured).
    """

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._metrics = metrics
        self._reading = asyncio.Lock()
        self._wanted = 0
        self._read_for = 0
        """The latest call before the last read began: it, and all before it, have what they asked for."""

    async def refresh(self) -> None:
        """Return once the gauges are of a moment behind this call; without PostgreSQL a gauge says so."""
        self._wanted += 1
        own = self._wanted
        async with self._reading:
            if self._read_for < own:
                wanted = self._wanted
                await self._read()
                self._read_for = wanted

    async def _read(self) -> None:
        counted = self._metrics
        try:
            async with self._database.connect() as tx:
                backlog = await outbox.backlog(tx)
                waiting = await inspections.backlog(tx)
                due = await deliveries.backlog(tx)
                sampled = await copies.counted(tx)
                silence = await heartbeats.silence_seconds(tx)
                largest = await row_estimates.largest(tx, TENANTS_SHOWN_MAX)
                locks = await heartbeats.locks(tx)
        except Unavailable:
            counted.postgresql_up.set(0)
            return
        counted.postgresql_up.set(1)
        counted.outbox_waiting.set(backlog.waiting)
        counted.outbox_oldest_seconds.set(backlog.oldest_seconds)
        counted.attachments_waiting.set(waiting.files)
        counted.attachments_oldest_seconds.set(waiting.oldest_seconds)
        counted.webhooks_waiting.set(due.deliveries)
        counted.webhooks_oldest_seconds.set(due.oldest_seconds)
        counted.set_cache_counted(sampled.sampled_total, sampled.stale_total)
        counted.set_relayed_total(backlog.relayed_total)
        counted.tenant_row_bytes.clear()
        for tenant_id, size in largest.items():
            counted.tenant_row_bytes.labels(tenant_id).set(size)
        counted.worker_silence_seconds.clear()
        for queue, seconds in silence.items():
            counted.worker_silence_seconds.labels(queue).set(seconds)
        counted.inspection_lock.clear()
        for lock, holds in locks.items():
            counted.inspection_lock.labels(lock).set(holds)
