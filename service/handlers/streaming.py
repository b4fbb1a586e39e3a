"""A stream as an answer: replay, then live, with a sign of life in between, until something ends it."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import accumulate
from typing import Any

from litestar import Response
from litestar.types import ASGIApp, Receive, Scope, Send

from service.channels import BUFFER_BYTES_MAX, PAGE_EVENTS, Ending, Frame, Source, Watcher
from service.domain.errors import Unavailable
from service.domain.share import holder_of
from service.domain.ticket import Credential
from service.handlers.authentication import Authenticator
from service.handlers.problems import REQUEST_ID_KEY
from service.handlers.request_lines import fields_of
from service.log import get_logger
from service.metrics import Metrics
from service.streams import Streams

BEAT_SECONDS = 15.0
"""A comment at least this often keeps proxies from closing the line; as often the credentials are looked at again."""

SEND_SECONDS_MAX = 30.0
"""Two beats in which a reader took nothing at all: it is gone, or as good as gone."""

RETRY_MS = 2000
"""When a client comes back after a cut."""

RETRY_SPREAD_MS = (200, 1500)
"""The same when this process stops: the others should not be asked by all at once."""

FAREWELL_SECONDS = 0.5
"""What a stream gets at a stop to send what it has and to end: a client that takes nothing holds up no process."""

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]
COMMENT = b":\n\n"

DICE = random.SystemRandom()
"""Shares no state with anybody else's chance."""

LOG = get_logger("streams")


class EventStream(Response[bytes]):
    """The events of `source` behind `after`, as Server-Sent Events. It holds a place until it ends."""

    def __init__(
        self,
        source: Source,
        after: int,
        credential: Credential,
        *,
        streams: Streams,
        authenticator: Authenticator,
        metrics: Metrics,
    ) -> None:
        super().__init__(content=b"")
        self._source = source
        self._sent = after
        self._credential = credential
        self._streams = streams
        self._authenticator = authenticator
        self._metrics = metrics
        self._watcher: Watcher | None = None
        self._hung_up = False
        self._next_beat = 0.0
        self._holder = holder_of(credential.caller)
        streams.admit(self._holder)

    def give_up(self) -> None:
        """Give the place back without an answer."""
        self._streams.dismiss(self._holder)

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]  # it sends itself
        """What Litestar runs as the answer."""
        return self._answer

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.monotonic()
        listening = asyncio.create_task(self._listen_for_the_end(receive), name="stream-hang-up")
        ending = Ending.HUNG_UP
        try:
            LOG.info("stream.opened", request_id=scope.get(REQUEST_ID_KEY), **fields_of(scope))
            async with self._streams.drain.limit(None, at_stop=FAREWELL_SECONDS):
                await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                ending = await self._run(send)
                if ending is not Ending.HUNG_UP:
                    await _send(send, _farewell(ending), more=False)
        except TimeoutError:  # the reader took nothing for so long that not even a farewell goes through
            ending = Ending.STOPPING if self._streams.drain.has_started else Ending.SLOW
        finally:
            listening.cancel()
            if self._watcher is not None:
                self._streams.leave(self._watcher)
            self._streams.dismiss(self._holder)
            self._log(ending, time.monotonic() - began, scope.get(REQUEST_ID_KEY))

    def _log(self, ending: Ending, seconds: float, request_id: Any) -> None:
        said = {"seconds": round(seconds, 1), "request_id": request_id}
        if ending is Ending.SLOW:
            self._metrics.streams_dropped.inc()
            LOG.warning("stream.dropped", last_position=self._sent, **said)
        else:
            LOG.info("stream.ended", ending=ending.value, **said)

    async def _listen_for_the_end(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        self._hung_up = True
        if self._watcher is not None:
            self._watcher.finish(Ending.HUNG_UP)

    async def _run(self, send: Send) -> Ending:
        self._next_beat = time.monotonic() + BEAT_SECONDS
        await _send(send, b"retry: %d\n\n" % RETRY_MS)
        try:
            # First what is long past, page by page: a watcher's buffer would not hold what comes meanwhile.
            ending = await self._replay(send)
            if ending is not None:
                return ending
            # Then join, and read once more what came between: whatever is committed later wakes the channel.
            self._watcher = self._streams.join(self._source, self._sent)
            ending = await self._replay(send) if self._sent < self._watcher.joined_at else None
            return ending or await self._follow(send, self._watcher)
        except Unavailable:  # the client comes back with its last id, and reads on when PostgreSQL is back
            return Ending.UNAVAILABLE

    async def _replay(self, send: Send) -> Ending | None:
        """Send what is behind the last event sent, until a page is not full; an ending where it ends there."""
        while True:
            frames = await self._streams.read(self._source, self._sent)
            if frames is None:
                return Ending.GONE
            part = _beginning(frames)
            is_all = len(part) == len(frames) < PAGE_EVENTS
            del frames  # a reader that takes nothing holds its part alone, and reads the rest again
            if await self._deliver(send, part):
                return Ending.ENDED
            if is_all:
                return None
            if self._hung_up:
                return Ending.HUNG_UP
            if self._streams.drain.has_started:
                return Ending.STOPPING
            if time.monotonic() >= self._next_beat and not await self._beat(send):
                return Ending.UNAUTHENTICATED

    async def _follow(self, send: Send, watcher: Watcher) -> Ending:
        """Send what the channel hands over, and a comment when it has been quiet, until the watcher is finished."""
        if self._hung_up:
            return Ending.HUNG_UP
        while True:
            frames = await watcher.take(max(0.0, self._next_beat - time.monotonic()))
            if await self._deliver(send, frames):
                return Ending.ENDED
            if watcher.ending is not None:
                return watcher.ending
            if time.monotonic() >= self._next_beat and not await self._beat(send):
                return Ending.UNAUTHENTICATED

    async def _deliver(self, send: Send, frames: list[Frame]) -> bool:
        """Send those that have not been sent yet; whether the last of all was among them."""
        fresh = [frame for frame in frames if frame.position > self._sent]
        if not fresh:
            return False
        await _send(send, b"".join(frame.payload for frame in fresh))
        self._sent = fresh[-1].position
        return fresh[-1].is_last

    async def _beat(self, send: Send) -> bool:
        """Show that the line is alive; False: the credentials no longer hold."""
        self._next_beat = time.monotonic() + BEAT_SECONDS
        if not await self._authenticator.still_holds(self._credential):
            return False
        self._authenticator.uses.note(self._credential)
        await _send(send, COMMENT)
        return True


def _beginning(frames: list[Frame]) -> list[Frame]:
    """As many of the first frames as may wait for one reader, and one in any case."""
    sizes = accumulate(len(frame.payload) for frame in frames)
    return frames[: max(1, sum(size <= BUFFER_BYTES_MAX for size in sizes))]


async def _send(send: Send, body: bytes, *, more: bool = True) -> None:
    """Send, unless the reader has taken nothing for too long.

    Raises:
        TimeoutError: it has not.
    """
    async with asyncio.timeout(SEND_SECONDS_MAX):
        await send({"type": "http.response.body", "body": body, "more_body": more})


class StreamHead(Response[bytes]):
    """The answer to HEAD of a stream: what a stream says before its first event, and its end. It takes no place."""

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]  # it sends itself
        """What Litestar runs as the answer."""
        return _answer_head


async def _answer_head(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _farewell(ending: Ending) -> bytes:
    """The last bytes: why it ends, for a person who looks, and when to come back."""
    if ending is Ending.STOPPING:
        return b"retry: %d\n: %b\n\n" % (DICE.randint(*RETRY_SPREAD_MS), ending.value.encode())
    return b": %b\n\n" % ending.value.encode()
