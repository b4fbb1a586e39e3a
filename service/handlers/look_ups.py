"""Look-ups of credentials that this process does not know: few of those that find nothing, and none of them twice.

What keeps made-up keys from PostgreSQL. Each address (of IPv6 each /64) has a budget of look-ups that find nothing, of
this process alone and in its memory, so it holds without Redis. Credentials that were good once are looked up whatever
the budget says: a broken client locks out nobody who works behind the same address.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.domain.errors import Denial, Unauthenticated
from service.rates import Standing, site_of, windows_of

T = TypeVar("T")

MISSED_SECONDS = 10.0
"""How long a look-up that found nothing stands for the next one: keys are made before anybody sends them."""

MISSED_MAX = 10_000
"""Two megabytes; when one more comes, the oldest is forgotten, which costs a look-up."""


class NotLookedUp(Unauthenticated):
    """Too many unknown credentials have come from there: `standing` says when to come back."""

    def __init__(self, standing: Standing) -> None:
        super().__init__(denial=Denial.NOT_LOOKED_UP)
        self.standing = standing


class LookUps:
    """The budgets of all addresses, and what was looked up in vain a moment ago."""

    def __init__(self, rate: str | None) -> None:
        self._misses = None if rate is None else windows_of(rate)
        self._missed: dict[bytes, float] = {}
        """Digest of what was looked up, and until when it counts as missing; the oldest first."""
        self._under_way: Counter[str] = Counter()
        self._ended: dict[str, asyncio.Event] = {}
        """Where some wait for a look-up of their address to end."""

    async def find(self, digest: bytes, address: str | None, look: Callable[[], Awaitable[T | None]]) -> T | None:
        """What `look` finds for the credentials with this digest; None: nothing, now or a moment ago.

        Raises:
            NotLookedUp: the budget of the address is used up.
            whatever `look` raises: then nothing is counted.
        """
        now = time.monotonic()
        if self._missed.get(digest, now) > now:
            return None
        site = site_of(address)
        await self._take(site)
        is_missing = False
        self._under_way[site] += 1
        try:
            found = await look()
            is_missing = found is None
        finally:
            if not is_missing and self._misses is not None:
                self._misses.give_back(site)
            self._end(site)
        if is_missing:
            self._remember(digest)
        return found

    async def _take(self, site: str) -> None:
        """Take a place of the budget before the look-up, so that those at once are not more than those in a row.

        While look-ups under way hold the last places, wait for them: they may be good, and give their places back.
        """
        while self._misses is not None:
            standing = self._misses.hit(site, time.monotonic())
            if standing.allowed:
                return
            if not self._under_way[site]:
                raise NotLookedUp(standing)
            await self._ended.setdefault(site, asyncio.Event()).wait()

    def _end(self, site: str) -> None:
        self._under_way[site] -= 1
        if not self._under_way[site]:
            del self._under_way[site]
        ended = self._ended.pop(site, None)
        if ended is not None:
            ended.set()

    def _remember(self, digest: bytes) -> None:
        self._missed.pop(digest, None)
        if len(self._missed) >= MISSED_MAX:
            del self._missed[next(iter(self._missed))]
        self._missed[digest] = time.monotonic() + MISSED_SECONDS
