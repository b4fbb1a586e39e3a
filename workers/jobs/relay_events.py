"""Relays events: rung for by the service after each commit, and swept for in case the bell was lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from service.cache import Teller
from service.commands.relay import next_batch, relay_batch
from service.domain.errors import Unavailable
from service.domain.work import Queue
from service.log import get_logger
from service.store.engine import Database
from service.store.outbox import OutboxRow
from service.wakeups import feed_key

LOG = get_logger("relay")


class Relay:
    """Drains the outbox; calls that come while one runs become a single further one.

    `wake` rings the worker of a queue that has something to do now. A bell that is lost is made good by its sweep.
    `wake_watchers` wakes the streams across sessions, by their keys. Before an event leaves the outbox, and so before
    any delivery or position of it can be seen, `teller` sees to it that no copy is older than what will be told: that
    of a writer that died after its commit, too. If the relay dies meanwhile, the event is still there.
    """

    def __init__(
        self,
        database: Database,
        wake: Callable[[Queue], None] = lambda _: None,
        wake_watchers: Callable[..., None] = lambda *_: None,
        teller: Teller | None = None,
    ) -> None:
        self._teller = teller
        self._database = database
        self._wake = wake
        self._wake_watchers = wake_watchers
        self._running = asyncio.Lock()
        self._one_waits = False

    async def drain(self) -> int:
        """Relay until the outbox is empty; how many events.

        Raises:
            Unavailable: PostgreSQL is away; the next call goes on.
        """
        if self._one_waits:  # it will start after this commit, so it will see what this call was rung for
            return 0
        self._one_waits = True
        try:
            await self._running.acquire()
        finally:  # also when arq cancels the one that waits: else nobody would ever drain again
            self._one_waits = False
        try:
            return await self._drain()
        finally:
            self._running.release()

    async def _drain(self) -> int:
        relayed, missed = 0, list[OutboxRow]()
        while True:
            async with self._database.connect() as tx:
                batch = await next_batch(tx)
            if not batch:
                return relayed
            if self._teller is not None:
                await self._teller.outdate((row.tenant_id, row.session_id, row.event_seq) for row in batch)
            async with self._database.begin() as tx:
                rows, progress, woken, views = await relay_batch(tx, batch)
            if not rows:  # another relay was faster; or an erasure has them in hand, and the sweep will look again
                if batch == missed:
                    return relayed
                missed = batch
                continue
            for queue in woken:
                self._wake(queue)
            self._wake_watchers(*(feed_key(view.tenant_id, view.user_id) for view in views))
            relayed += len(rows)
            LOG.info(
                "relay.batch",
                events=len(rows),
                lag_ms=round((progress.relayed_at - rows[0].recorded_at).total_seconds() * 1000, 1),
                relayed_total=progress.relayed_total,
            )


async def relay_events(ctx: dict[str, Any]) -> int:
    """The job that the doorbell asks for."""
    relay: Relay = ctx["relay"]
    try:
        return await relay.drain()
    except Unavailable:  # the sweep says so, once, and goes on when PostgreSQL is back
        return 0
