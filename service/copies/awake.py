"""Time as far as this process was awake for it."""

from __future__ import annotations

import asyncio

TICK_SECONDS = 0.1
"""What a busy loop may be late by without losing any of it; a process that was stopped loses all but two of these."""


class AwakeClock:
    """Seconds in which this process ran. What follows from silence must not follow from having been stopped oneself:

    a process that wakes up after a minute has heard nothing in it, whoever else was answered.
    """

    def __init__(self) -> None:
        self._counted = 0.0
        self._counted_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Seconds since the first call."""
        if self._counted_at is None:
            self._tick()
        return self._counted + self._since_the_last_tick()

    def stop(self) -> None:
        """Count no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._counted += self._since_the_last_tick()
        self._counted_at = loop.time()
        self._timer = loop.call_later(TICK_SECONDS, self._tick)

    def _since_the_last_tick(self) -> float:
        if self._counted_at is None:
            return 0.0
        return min(asyncio.get_running_loop().time() - self._counted_at, 2 * TICK_SECONDS)
