"""Live streams: for all who watch the same thing in this process, one read of what is new, and none while nothing is.

Who watches joins a channel (`service/channels.py`), which is woken when there is something new. Wake-ups may be lost:
one look for all channels together, every few seconds, finds those that are behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping

from service.channels import PAGE_EVENTS, Channel, Ending, Frame, Source, Watcher
from service.domain.errors import Stopping, TooManyStreams, Unavailable
from service.domain.share import STREAMS_MAX, STREAMS_PER_TENANT_MAX, Holder, Shares
from service.draining import Drain
from service.log import get_logger
from service.places import Places, Wording

READS_AT_ONCE = 4
"""A quarter of a process's connections: streams never take those of requests."""

LOOK_SECONDS = 15.0
"""What a lost wake-up costs at the most."""

LOOK_SECONDS_IN_TROUBLE = 1.0
"""The same while no wake-up is heard, or PostgreSQL was away a moment ago."""

DICE = random.SystemRandom()
"""Shares no state with anybody else's chance."""

WORDING = Wording("streams", "try again, and with your last event's id", TooManyStreams)

LOG = get_logger("streams")


class Streams:
    """All streams of a process. `find_behind`: which of the sources have something behind the positions given.

    All of them end with `drain`. One tenant may have `per_tenant` of them.
    """

    def __init__(
        self,
        find_behind: Callable[[Mapping[bytes, tuple[Source, int]]], Awaitable[Iterable[bytes]]],
        drain: Drain,
        per_tenant: int = STREAMS_PER_TENANT_MAX,
    ) -> None:
        self.drain = drain
        self._find_behind = find_behind
        self._channels: dict[bytes, Channel] = {}
        self._places = Places(Shares(STREAMS_MAX, per_tenant), WORDING)
        self._reads = asyncio.Semaphore(READS_AT_ONCE)
        self._look_now = asyncio.Event()
        self._is_listening = False
        self._in_trouble = False
        self._looking: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    @property
    def count(self) -> int:
        """How many streams are open."""
        return self._places.count

    def start(self) -> None:
        """Begin to look for what lost wake-ups forgot, and to listen for the stop."""
        self._looking = asyncio.create_task(self._look_again_and_again(), name="streams")
        self._ending = asyncio.create_task(self._end_all_at_the_stop(), name="streams-end")

    async def stop(self) -> None:
        """Let every stream end, and stop looking."""
        self.drain.start()
        if self._looking is not None and self._ending is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, self._ending, return_exceptions=True)

    async def _end_all_at_the_stop(self) -> None:
        await self.drain.wait()
        for channel in self._channels.values():
            channel.finish(Ending.STOPPING)

    def admit(self, holder: Holder) -> None:
        """Take a place for a stream; `dismiss` gives it back.

        Raises:
            TooManyStreams: the caller, or its tenant, has as many as it may have in one process.
            ProcessFull: it has as many as it takes, or as it takes of this tenant.
            Stopping: it is about to stop.
        """
        if self.drain.has_started:
            raise Stopping
        self._places.take(holder)

    def dismiss(self, holder: Holder) -> None:
        """Give a place back."""
        self._places.give_back(holder)

    async def read(self, source: Source, after: int) -> list[Frame] | None:
        """A page of a source for one stream alone: what it has missed. In turn with the other reads of streams."""
        async with self._reads:
            return await source.read(after, PAGE_EVENTS)

    def join(self, source: Source, after: int) -> Watcher:
        """Watch a source from now on. Between `after` and `joined_at` is still to be read: join first, then read."""
        channel = self._channels.get(source.key)
        is_new = channel is None
        if channel is None:
            channel = Channel(source, after, self._reads, self._on_trouble)
            self._channels[source.key] = channel
        watcher = Watcher(source, channel.position)
        channel.watchers.add(watcher)
        if is_new:  # what came between the caller's own read and this moment woke nobody
            channel.wake()
        if self.drain.has_started:
            watcher.finish(Ending.STOPPING)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Watch no more; a channel that nobody watches is forgotten."""
        channel = self._channels.get(watcher.source.key)
        if channel is None:
            return
        channel.watchers.discard(watcher)
        if not channel.watchers:
            del self._channels[watcher.source.key]

    def wake(self, keys: Iterable[bytes]) -> None:
        """Let those of these channels that are watched here read on; keys that nobody watches do nothing."""
        for key in keys:
            channel = self._channels.get(key)
            if channel is not None:
                channel.wake()

    def set_listening(self, is_listening: bool) -> None:
        """Note whether other processes' wake-ups are heard; when they are again, look for what was missed at once."""
        self._is_listening = is_listening
        self._look_now.set()

    def _on_trouble(self) -> None:
        if not self._in_trouble:
            LOG.warning("streams.postponed", streams=self.count)
        self._in_trouble = True
        self._look_now.set()

    async def _look_again_and_again(self) -> None:
        while True:
            is_quiet = self._is_listening and not self._in_trouble
            # Spread, so that the processes of an installation do not all look at the same moment.
            seconds = (LOOK_SECONDS if is_quiet else LOOK_SECONDS_IN_TROUBLE) * DICE.uniform(0.9, 1)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._look_now.wait()
                    if self._in_trouble:  # no hurry: whatever broke needs a moment
                        await asyncio.sleep(LOOK_SECONDS_IN_TROUBLE)
            self._look_now.clear()
            await self._look()

    async def _look(self) -> None:
        watched = {key: (channel.source, channel.position) for key, channel in self._channels.items()}
        if not watched:
            self._in_trouble = False
            return
        try:
            self.wake(await self._find_behind(watched))
        except Unavailable:
            self._on_trouble()
        except Exception:  # what is watched must go on being watched
            LOG.exception("streams.broke")
            self._on_trouble()
        else:
            if self._in_trouble:
                LOG.info("streams.resumed", streams=self.count)
            self._in_trouble = False
