"""Channels: the one reader of what several watch, and what each watcher was handed and has not taken yet.

A *source* is what can be watched: a session's events, or those across sessions. Its *channel* stands at a position;
when woken it reads on from there and hands what it read, encoded once, to every *watcher*.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import msgspec

from service.domain.errors import Unavailable
from service.log import get_logger

PAGE_EVENTS = 200
"""Read at a time: some 100 KB."""

BUFFER_BYTES_MAX = 256 * 1024
"""What waits for a slow reader beside what the connection itself holds: some 500 events. Then it is dropped."""

LOG = get_logger("streams")


class Frame(msgspec.Struct, frozen=True):
    """One event as it goes over the wire, with its place in the source; `is_last`: nothing follows."""

    position: int
    payload: bytes
    is_last: bool = False


class Source(Protocol):
    """What can be watched."""

    @property
    def key(self) -> bytes:
        """By which it is woken: 16 bytes."""

    async def read(self, after: int, limit: int) -> list[Frame] | None:
        """At most `limit` frames behind `after`, ascending; None: it is gone."""


class Ending(StrEnum):
    """Why a stream ends."""

    ENDED = "ended"
    GONE = "gone"
    SLOW = "slow"
    STOPPING = "stopping"
    HUNG_UP = "hung_up"
    UNAUTHENTICATED = "unauthenticated"
    UNAVAILABLE = "unavailable"


class Watcher:
    """One reader of a channel: what it has been handed and not yet taken, within a bound."""

    __slots__ = ("_bytes", "_changed", "_frames", "ending", "joined_at", "source")

    def __init__(self, source: Source, joined_at: int) -> None:
        self.source = source
        self.joined_at = joined_at
        """Where the channel stood: all that follows is handed over, all before has to be read."""
        self.ending: Ending | None = None
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._changed = asyncio.Event()

    def push(self, frames: list[Frame]) -> None:
        """Hand frames over; a watcher that has not taken enough is finished, and what it was handed is forgotten."""
        if self.ending is not None:
            return
        self._frames.extend(frames)
        self._bytes += sum(len(frame.payload) for frame in frames)
        if self._bytes > BUFFER_BYTES_MAX:
            self._frames.clear()
            self.ending = Ending.SLOW
        self._changed.set()

    def finish(self, ending: Ending) -> None:
        """Let it end once it has taken what it was handed."""
        self.ending = self.ending or ending
        self._changed.set()

    async def take(self, seconds: float) -> list[Frame]:
        """What was handed over since the last time; waits for it, at most so long. Empty, too, when it is finished."""
        if not self._changed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()
        frames, self._frames, self._bytes = list(self._frames), deque(), 0
        self._changed.clear()
        return frames


class Channel:
    """The one reader of a source for all its watchers in this process."""

    __slots__ = ("_on_trouble", "_reading", "_reads", "_woken", "position", "source", "watchers")

    def __init__(self, source: Source, position: int, reads: asyncio.Semaphore, on_trouble: Callable[[], None]) -> None:
        self.source = source
        self.position = position
        self.watchers: set[Watcher] = set()
        self._reads = reads
        self._on_trouble = on_trouble
        self._woken = False
        self._reading: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Read on, now or once the read that is running has ended; returns at once."""
        self._woken = True
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_while_woken(), name="stream-channel")

    def finish(self, ending: Ending) -> None:
        """Let all its watchers end."""
        for watcher in self.watchers:
            watcher.finish(ending)

    async def _read_while_woken(self) -> None:
        try:
            while self._woken and self.watchers:
                self._woken = False
                await self._read()
        except Unavailable:
            self._on_trouble()
        except Exception:  # the next look finds this channel behind, and tries again
            LOG.exception("streams.broke")
            self._on_trouble()
        finally:
            self._reading = None

    async def _read(self) -> None:
        """Read all that is new, and hand it over."""
        is_full = True
        while is_full:
            async with self._reads:
                frames = await self.source.read(self.position, PAGE_EVENTS)
            if frames is None:
                self.finish(Ending.GONE)
                return
            if frames:
                self.position = frames[-1].position
                for watcher in self.watchers:
                    watcher.push(frames)
                if frames[-1].is_last:
                    self.finish(Ending.ENDED)
            is_full = len(frames) == PAGE_EVENTS
