"""Waiting for tool calls: one small read every 200 ms for all who wait in this process, however many they are.

No connection is held while waiting, and Redis has no part in it: a decision made through any other process is seen by
the next read. When the process stops, every wait is over at once.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import msgspec

from service.domain.errors import TooManyWaits, Unavailable
from service.domain.share import WAITS_MAX, WAITS_PER_TENANT_MAX, Holder, Shares
from service.domain.tool_call import CallStatus
from service.draining import Drain
from service.log import get_logger
from service.places import Places, Wording
from service.store import tool_calls
from service.store.engine import Database

LOOK_SECONDS = 0.2
"""A decision is answered within half a second: one interval, one read, one answer."""

WAIT_SECONDS_MAX = 60
"""API 4; shorter than the idle timeouts of common proxies."""

WORDING = Wording("waits", "try again, or ask without waiting", TooManyWaits)

LOG = get_logger("waiting")


class _Waiter(msgspec.Struct, eq=False):
    call_id: UUID
    seen: CallStatus
    changed: asyncio.Event


class Watch:
    """Wakes those who wait for a tool call to change. Of one tenant `per_tenant` may wait at once."""

    def __init__(self, database: Database, drain: Drain, per_tenant: int = WAITS_PER_TENANT_MAX) -> None:
        self._database = database
        self._drain = drain
        self._waiters: set[_Waiter] = set()
        self._places = Places(Shares(WAITS_MAX, per_tenant), WORDING)
        self._looking: asyncio.Task[None] | None = None

    async def changed(self, call_id: UUID, seen: CallStatus, seconds: float, holder: Holder) -> None:
        """Return as soon as the call's status is another than `seen`, at the latest after `seconds` or at the stop.

        Raises:
            TooManyWaits: the caller, or its tenant, waits for as many as it may in one process.
            ProcessFull: as many wait as it takes, or as it takes of this tenant.
        """
        self._places.take(holder)
        waiter = _Waiter(call_id, seen, asyncio.Event())
        self._waiters.add(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_while_somebody_waits(), name="tool-call-watch")
        try:
            async with self._drain.limit(seconds):
                await waiter.changed.wait()
        except TimeoutError:
            return
        finally:
            self._waiters.discard(waiter)
            self._places.give_back(holder)

    async def stop(self) -> None:
        """Look no more; the waits have heard of the stop themselves."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_while_somebody_waits(self) -> None:
        while self._waiters:
            await asyncio.sleep(LOOK_SECONDS)
            waiters = list(self._waiters)
            try:
                async with self._database.connect() as tx:
                    states = await tool_calls.states(tx, list({waiter.call_id for waiter in waiters}))
            except Unavailable:  # whoever waits goes on waiting; the next request will hear of it
                LOG.warning("waiting.postponed", waiters=len(waiters))
                continue
            for waiter in waiters:
                if states.get(waiter.call_id) is not waiter.seen:
                    waiter.changed.set()
