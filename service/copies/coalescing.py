"""Many who ask become one call: what is asked while a call runs goes with the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Key = TypeVar("Key")


class Coalescer(Generic[Item, Answer]):
    """Sends items in batches, one batch at a time; `send` answers as many as it was given, or raises for all."""

    def __init__(self, send: Callable[[list[Item]], Awaitable[list[Answer]]], size_max: int) -> None:
        self._send = send
        self._size_max = size_max
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._sending: asyncio.Task[None] | None = None

    async def ask(self, item: Item) -> Answer:
        """Have `item` sent with whatever else is asked in this turn of the loop; its answer."""
        return await asyncio.shield(self.put(item))

    def put(self, item: Item) -> asyncio.Future[Answer]:
        """The same for who does not wait here."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_while_asked(), name="cache")
        return answer

    async def finish(self) -> None:
        """Wait until all has been sent."""
        if self._sending is not None:
            await asyncio.wait([self._sending])

    async def _send_while_asked(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[: self._size_max], self._waiting[self._size_max :]
                try:
                    answers = await self._send([item for item, _ in batch])
                except Exception as error:  # noqa: BLE001 - theirs who asked
                    for _, answer in batch:
                        if not answer.done():
                            answer.set_exception(error)
                            answer.exception()
                else:
                    for (_, answer), given in zip(batch, answers, strict=True):
                        if not answer.done():
                            answer.set_result(given)
        finally:
            self._sending = None


class Flights(Generic[Key, Answer]):
    """Single flight: of those who want the same read at the same time, one reads.

    Who comes while a read runs waits for the next one: what runs may have looked before something was acknowledged that
    the newcomer must see.
    """

    def __init__(self) -> None:
        self._next: dict[Key, asyncio.Future[Answer]] = {}
        self._running: dict[Key, asyncio.Task[None]] = {}

    async def read(self, key: Key, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """What `read` gives, or what an equal read gives that begins after this call."""
        waiting = self._next.get(key)
        if waiting is None:
            waiting = self._next[key] = asyncio.get_running_loop().create_future()
            if key not in self._running:
                self._running[key] = asyncio.create_task(self._read_while_wanted(key, read), name="cache-read")
        return await asyncio.shield(waiting)

    async def _read_while_wanted(self, key: Key, read: Callable[[], Awaitable[Answer]]) -> None:
        try:
            while (waiting := self._next.pop(key, None)) is not None:
                try:
                    waiting.set_result(await read())
                except Exception as error:  # noqa: BLE001 - theirs who asked
                    waiting.set_exception(error)
                    waiting.exception()
        finally:
            del self._running[key]
