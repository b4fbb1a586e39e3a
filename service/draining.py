"""The stop of a process, as everything that waits in it hears it.

A process that is asked to stop *drains*: it finishes what it works on, and waits for nothing else. So what waits, waits
under a `Limit` of the one `Drain` of its process, and gets as long after the stop as such a wait is worth.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

GRACE_SECONDS = 15.0
"""What requests that work get to finish: below the 20 s after which supervisors kill."""

BEGINNING_SECONDS = 0.5
"""What a request, or a body, that has not begun to arrive gets: a round trip, as it may have been sent already."""


class Drain:
    """Whether this process stops, and all limits of time that end with it."""

    def __init__(self) -> None:
        self._started = asyncio.Event()
        self._limits: set[Limit] = set()

    @property
    def has_started(self) -> bool:
        """Whether this process was asked to stop."""
        return self._started.is_set()

    def start(self) -> None:
        """Stop: every wait that is under way ends after what it gets then. In the loop's own thread; once is enough."""
        if self.has_started:
            return
        self._started.set()
        for limit in self._limits:
            limit.shorten()

    async def wait(self) -> None:
        """Return when this process is asked to stop."""
        await self._started.wait()

    def limit(self, seconds: float | None, *, at_stop: float = 0.0) -> Limit:
        """Let an `async with` block take `seconds` (None: as long as it likes), and `at_stop` of them after the stop.

        Such a block ends as one of `asyncio.timeout` does: it is cancelled, and raises TimeoutError.
        """
        return Limit(self, self._limits, seconds, at_stop)


class Limit:
    """The time that a block has. A class, because each request has one: nested generators cost it more."""

    __slots__ = ("_at_stop", "_drain", "_limits", "_seconds", "_timeout")

    def __init__(self, drain: Drain, limits: set[Limit], seconds: float | None, at_stop: float) -> None:
        self._drain = drain
        self._limits = limits
        self._seconds = seconds
        self._at_stop = at_stop

    @property
    def is_over(self) -> bool:
        """Whether the time was over before the block was."""
        return self._timeout.expired()

    async def __aenter__(self) -> Self:
        seconds = self._seconds
        if self._drain.has_started:  # what begins after the stop gets what it would have got at the stop
            seconds = self._at_stop if seconds is None else min(seconds, self._at_stop)
        self._timeout = asyncio.timeout(seconds)
        await self._timeout.__aenter__()
        self._limits.add(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._limits.discard(self)
        await self._timeout.__aexit__(kind, error, trace)

    def shorten(self) -> None:
        """Give the block what it gets after the stop, which is now."""
        until = asyncio.get_running_loop().time() + self._at_stop
        when = self._timeout.when()
        if not self._timeout.expired() and (when is None or until < when):
            self._timeout.reschedule(until)
