"""Those who follow streams: of one session, or across all; they come back with their last id wherever they were cut."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress

import msgspec
from agent import Front
from history import History, Sent, Watched
from wire import Answer, Line, NoAnswer

SILENCE_SECONDS_MAX = 20.0
"""Longer than the 15 s after which a stream shows that it is alive."""
CUT_SECONDS = (2.0, 9.0)
"""How long one connection lives before it is cut."""
RETURN_SECONDS = (0.05, 0.4)
GONE_STATUSES = {204}


class Following:
    """One stream over all its connections, at changing processes."""

    def __init__(self, name: str, front: Front, history: History, dice: random.Random, session: str = "") -> None:
        self.watched = Watched(name, session)
        history.watched.append(self.watched)
        self._history = history
        self._dice = dice
        self._lines = [Line(port, f"Bearer {front.key}") for port in front.ports]
        self._path = f"/api/v1/sessions/{session}/events/stream?after_seq=0" if session else "/api/v1/events/stream"
        self._last_id = ""
        self.is_open = asyncio.Event()

    def cut(self) -> None:
        """Break the connection it has."""
        for line in self._lines:
            line.cut()

    async def run(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        cutting = asyncio.create_task(self._cut_now_and_then())
        try:
            while not stop.is_set():
                reading = asyncio.create_task(self._follow_once())
                await asyncio.wait({reading, stopping}, return_when=asyncio.FIRST_COMPLETED)
                reading.cancel()
                with suppress(NoAnswer, asyncio.CancelledError):
                    if await reading:
                        return
                await asyncio.sleep(self._dice.uniform(*RETURN_SECONDS))
        finally:
            cutting.cancel()
            stopping.cancel()

    async def _cut_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(*CUT_SECONDS))
            self.cut()

    async def _follow_once(self) -> bool:
        """Follow until the line breaks; True when the stream is over for good."""
        web = self._dice.randrange(len(self._lines))
        headers = {"Last-Event-ID": self._last_id} if self._last_id else {}
        began, rest = time.monotonic(), b""
        async for piece in self._lines[web].stream(self._path, headers, silence=SILENCE_SECONDS_MAX):
            if isinstance(piece, Answer):
                self._history.request(_sent(began, web, piece))
                if piece.status != 200:
                    return piece.status in GONE_STATUSES
                self.watched.connections += 1
                self.is_open.set()
                continue
            *whole, rest = (rest + piece).split(b"\n\n")
            for block in whole:
                self._take(block)
        return False

    def _take(self, block: bytes) -> None:
        fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
        if "id" in fields and "data" in fields:
            event = msgspec.json.decode(fields["data"])
            self.watched.told.append((event["session_id"], event["seq"], event["id"]))
            self._last_id = fields["id"]


def _sent(began: float, web: int, answer: Answer) -> Sent:
    has_retry_after = answer.headers.get("retry-after", "").isdigit()
    return Sent(began, time.monotonic() - began, web, "stream", answer.status, "", has_retry_after)
