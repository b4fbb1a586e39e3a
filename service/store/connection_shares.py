"""The connections of a process, shared out by tenant: a bulk of one holds up nothing but itself.

A tenant takes as many places as its share without asking what others do. It takes more only while more than half of
all places stay free: so it is not slowed down where it is alone, and finds nothing that another one needs. Who has to
wait, waits in turns by tenant: the one that holds the fewest places comes first.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque

KEPT_FREE = 2
"""The part of all places (one half) that a tenant beyond its share leaves free for others."""


class ConnectionShares:
    """Places for connections. `share`: how many of them a tenant may hold whatever others do.

    What belongs to no tenant (credentials that are looked up, metrics, workers) has no share: it takes what is free.
    """

    def __init__(self, places: int, share: int) -> None:
        self._share = share
        self._free = places
        self._kept_free = places // KEPT_FREE
        self._held: Counter[str | None] = Counter()
        self._waiting: dict[str | None, deque[asyncio.Future[None]]] = {}

    def take(self, tenant_id: str | None) -> bool:
        """Take a place if there is one for this tenant right now."""
        if not self._may_take(tenant_id):
            return False
        self._free -= 1
        self._held[tenant_id] += 1
        return True

    async def wait(self, tenant_id: str | None, seconds: float) -> None:
        """Take a place when it is this tenant's turn.

        Raises:
            TimeoutError: it was not within `seconds`.
        """
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(tenant_id, deque())
        waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await place
        except BaseException:
            if place.done() and not place.cancelled():  # it came at the very moment
                self.give_back(tenant_id)
            else:
                self._forget(tenant_id, place)
            raise

    def give_back(self, tenant_id: str | None) -> None:
        """Return a place, and hand out what those who wait may take now."""
        self._free += 1
        self._held[tenant_id] -= 1
        if not self._held[tenant_id]:
            del self._held[tenant_id]
        if self._waiting:
            self._hand_out()

    def is_at_its_share(self, tenant_id: str | None) -> bool:
        """Whether this tenant holds all that is its own: so it is itself what it waits for."""
        return tenant_id is not None and self._held[tenant_id] >= self._share

    def _may_take(self, tenant_id: str | None) -> bool:
        if tenant_id is None or self._held[tenant_id] < self._share:
            return self._free > 0
        return self._free > self._kept_free

    def _hand_out(self) -> None:
        while True:
            able = [tenant_id for tenant_id in self._waiting if self._may_take(tenant_id)]
            if not able:
                return
            first = min(able, key=self._held.__getitem__)  # of equals the one that has waited longest
            place = self._waiting[first].popleft()
            self._take_turn(first)
            if not place.done():  # else it has just been given up
                self.take(first)
                place.set_result(None)

    def _take_turn(self, tenant_id: str | None) -> None:
        """Put a tenant that was served behind the others."""
        waiting = self._waiting.pop(tenant_id)
        if waiting:
            self._waiting[tenant_id] = waiting

    def _forget(self, tenant_id: str | None, place: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(tenant_id)
        if waiting is not None and place in waiting:
            waiting.remove(place)
            if not waiting:
                del self._waiting[tenant_id]
