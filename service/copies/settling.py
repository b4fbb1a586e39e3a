"""Before anybody is told of a change: no older copy stands, or none that stands can be shown any more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from service.copies.coalescing import Coalescer
from service.copies.entries import Addition, Notary, numbered
from service.copies.link import Away, Link, Trouble, Unanswered
from service.copies.names import GENERATION, Kind
from service.copies.pulse import OVER_SECONDS, Pulse
from service.copies.scripts import SETTLE
from service.log import get_logger

if TYPE_CHECKING:
    from prometheus_client import Counter

CALL_SECONDS_MAX = 0.1
"""A call that takes longer is a connection in trouble, or a slow Redis: it is made once more, on another connection,

and then waited for. As long as answers come late, the first one is waited for, too: nothing is won by giving it up.
"""

RETRY_SECONDS = 0.02
UNCONFIRMED_SECONDS_MAX = OVER_SECONDS + CALL_SECONDS_MAX
"""The longest that a change waits for Redis: until whatever generation was alive must have lapsed."""

SESSIONS_AT_ONCE = 200
"""In one call: some 100 KB as a rule, a millisecond of Redis' time; 3 MB at the most (`CONTINUED_BYTES_MAX`)."""

LOG = get_logger("cache")


class Change(msgspec.Struct, frozen=True):
    """What has become of a session: copies that know `seq` or more stay, older ones go.

    `seq` None: whatever stands goes. `addition`: copies that end where it begins are continued.
    """

    name: bytes
    seq: int | None = None
    addition: Addition | None = None


class Settler:
    """Has changes confirmed by Redis, all of a moment by one call."""

    def __init__(
        self, link: Link, pulse: Pulse, failures: Counter | None = None, unsettled: Counter | None = None
    ) -> None:
        self.notary: Notary | None = None
        """With it, copies are continued; without, they are deleted."""
        self._link = link
        self._pulse = pulse
        self._failures = failures
        self._unsettled = unsettled
        self._is_slow = False
        """Whether the last answer came late, or not at all."""
        self._calls: Coalescer[Change, bool] = Coalescer(self._settle_all, SESSIONS_AT_ONCE)

    async def settle(self, *changes: Change) -> bool:
        """Return once nobody can be shown what is older; False: not by a confirmation, but by waiting long enough.

        That is after one call, as a rule, however slow; while Redis is away, after one refusal; if it answers nobody or
        refuses everything, after 1.2 s, once in such a time.
        """
        puts = [self._calls.put(change) for change in changes]
        return all(await asyncio.shield(asyncio.gather(*puts)))

    def settle_later(self, change: Change) -> None:
        """The same for who tells nobody."""
        self._calls.put(change)

    async def stop(self) -> None:
        """Finish what was begun."""
        await self._calls.finish()
        await self._link.close()

    async def _settle_all(self, changes: list[Change]) -> list[bool]:
        loop, clock = asyncio.get_running_loop(), self._pulse.clock
        deadline = clock.now() + UNCONFIRMED_SECONDS_MAX
        while True:
            if await self._is_over():
                return self._unconfirmed(changes)
            asked_at = loop.time()
            try:
                await self._link.call(SETTLE, *self._command(changes), seconds_max=self._patience(deadline))
            except Away:  # nothing is shown there, and nothing of before will be
                return self._unconfirmed(changes, is_proven=True)
            except Trouble as trouble:
                if self._failures is not None:
                    self._failures.inc()
                self._pulse.doubt()
                if self._pulse.has_long_failed or clock.now() >= deadline:
                    LOG.debug("cache.unconfirmed", error=str(trouble), sessions=len(changes))
                    return self._unconfirmed(changes)
                self._is_slow = isinstance(trouble, Unanswered)
                if not self._is_slow:
                    await asyncio.sleep(RETRY_SECONDS)
            else:
                self._is_slow = loop.time() - asked_at > CALL_SECONDS_MAX
                return [True] * len(changes)

    def _patience(self, deadline: float) -> float:
        """How long the next answer is waited for: one that nothing can be expected of, or a new trouble's, not long."""
        if not self._is_slow or self._pulse.has_long_failed:
            return CALL_SECONDS_MAX
        return max(CALL_SECONDS_MAX, deadline - self._pulse.clock.now())

    async def _is_over(self) -> bool:
        """Whether Redis answers nobody, and has not for so long that no copy will be shown.

        Looked at twice, with some turns of the loop between: an answer that has arrived is to be seen.
        """
        if not self._pulse.is_over:
            return False
        await asyncio.sleep(RETRY_SECONDS)
        return self._pulse.is_over

    def _unconfirmed(self, changes: list[Change], *, is_proven: bool = False) -> list[bool]:
        if not is_proven and self._unsettled is not None:
            self._unsettled.inc(len(changes))
        self._pulse.doubt(must_renew=True)
        return [False] * len(changes)

    def _command(self, changes: list[Change]) -> tuple[list[bytes], list[bytes]]:
        generation, notary = self._pulse.generation, self.notary
        keys, arguments = [GENERATION], [generation or b""]
        for change in sorted(changes, key=_in_order):
            keys.append(change.name)
            added = change.addition
            if added is not None and generation is not None and notary is not None:
                arguments += [
                    numbered(added.before),
                    numbered(added.after),
                    notary.continue_snapshot(change.name + Kind.SNAPSHOT.value, generation, added),
                    notary.continue_window(change.name + Kind.WINDOW.value, generation, added),
                ]
            else:
                seq = change.seq if added is None else added.after
                arguments += [b"", b"" if seq is None else numbered(seq), b"", b""]
        return keys, arguments


def _in_order(change: Change) -> tuple[bytes, int]:
    """Changes of one session by their number: of writers who come at the same time, each continues the one before."""
    seq = change.seq if change.addition is None else change.addition.after
    return change.name, -1 if seq is None else seq
