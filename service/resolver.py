"""Names that callers chose, and the addresses behind them: asked once, with limits of time and room.

A look-up cannot be called back: a name whose servers are silent keeps its thread until the system gives up, long after
whoever asked has. So these names have threads of their own, at most one each, and no other work of the process waits
behind them; and of those threads some are kept for names that have answered, so that silent ones cannot take all.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress

RESOLVE_SECONDS_MAX = 3.0
"""A name server that takes longer is in trouble."""

ROOM_SECONDS_MAX = 3.0
"""How long a name waits for a thread: as long as the look-ups before it may take that are not in trouble."""

LOOKUPS_MAX = 64
"""At once, of names that were prompt the last time, and as many of all others; each is a thread that only waits, some
100 kB. So it takes 64 names that begin to be silent together to keep one waiting that answers.
"""

PROMPT_SECONDS = 1.0
"""A name that has answered in this time, be it that there is none, may use the room of those that do."""

PROMPT_NAMES_MAX = 10_000
"""Remembered, a megabyte; the one that was not asked for the longest is forgotten first."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""All addresses of a host, best first; none: there is no such name, or its servers are silent. May raise NotAsked."""


class NotAsked(Exception):
    """So many names were being asked for that nothing is known of this one: it is no fault of its own."""


class Resolver:
    """Looks names up for one process."""

    def __init__(self) -> None:
        self._answers: dict[str, asyncio.Task[list[str] | None]] = {}
        self._room = {is_prompt: asyncio.Semaphore(LOOKUPS_MAX) for is_prompt in (True, False)}
        self._prompt: dict[str, None] = {}

    async def resolve(self, host: str, _port: int) -> list[str]:
        """The addresses that this machine would connect to, whatever way `host` is written in.

        Raises:
            NotAsked: there was no thread for it.
        """
        try:
            return _addresses(host, socket.AI_NUMERICHOST)  # asks nobody
        except UnicodeError:
            return []
        except OSError:
            pass
        if host not in self._answers:
            self._answers[host] = asyncio.create_task(self._answer(host), name="lookup")
        answer = await asyncio.shield(self._answers[host])
        if answer is None:
            raise NotAsked
        return answer

    async def _answer(self, host: str) -> list[str] | None:
        """For all who want this name, until its thread has ended; None: it was not asked."""
        loop = asyncio.get_running_loop()
        room = self._room[host in self._prompt]
        try:
            async with asyncio.timeout(ROOM_SECONDS_MAX):
                await room.acquire()
        except TimeoutError:
            del self._answers[host]
            return None
        began, found = loop.time(), loop.create_future()

        def end(addresses: list[str] | None) -> None:
            room.release()
            del self._answers[host]
            self._note(host, is_prompt=addresses is not None and loop.time() - began <= PROMPT_SECONDS)
            found.set_result(addresses)

        try:
            threading.Thread(target=_look_up, args=(host, loop, end), name="lookup", daemon=True).start()
        except RuntimeError:  # this machine has no more threads; who is told so asks again at once
            await asyncio.sleep(ROOM_SECONDS_MAX)
            end(None)
        await asyncio.wait({found}, timeout=RESOLVE_SECONDS_MAX)
        return found.result() if found.done() else []

    def _note(self, host: str, *, is_prompt: bool) -> None:
        self._prompt.pop(host, None)
        if is_prompt:
            self._prompt[host] = None
            if len(self._prompt) > PROMPT_NAMES_MAX:
                del self._prompt[next(iter(self._prompt))]


def _look_up(host: str, loop: asyncio.AbstractEventLoop, end: Callable[[list[str]], None]) -> None:
    """In a thread that the end of the process does not wait for."""
    addresses: list[str] = []
    try:
        with suppress(OSError, UnicodeError):
            addresses = _addresses(host)
    finally:
        with suppress(RuntimeError):  # the loop is closed, so nobody waits
            loop.call_soon_threadsafe(end, addresses)


def _addresses(host: str, flags: int = 0) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
