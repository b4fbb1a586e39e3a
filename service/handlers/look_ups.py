"""Look-ups of credentials that this process does not know: few of those that find nothing, and none of them twice.

What keeps made-up keys from PostgreSQL. Each address (of IPv6 each /64) has a budget of look-ups that find nothing, of
this process alone and in its memory, so it holds without Redis. Credentials that were good once are looked up whatever
the budget says: a broken client locks out nobody who works behind the same address.
"""

from __future__ import annotations

import time
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
        self._take(site, now)
        is_missing = False
        try:
            found = await look()
            is_missing = found is None
        finally:
            if not is_missing and self._misses is not None:
                self._misses.give_back(site)
        if is_missing:
            self._remember(digest)
        return found

    def _take(self, site: str, now: float) -> None:
        """Take a place of the budget before the look-up, so that those at once are not more than those in a row."""
        if self._misses is None:
            return
        standing = self._misses.hit(site, now)
        if not standing.allowed:
            raise NotLookedUp(standing)

    def _remember(self, digest: bytes) -> None:
        self._missed.pop(digest, None)
        if len(self._missed) >= MISSED_MAX:
            del self._missed[next(iter(self._missed))]
        self._missed[digest] = time.monotonic() + MISSED_SECONDS
