"""The twelve clients, on a loop and a thread of their own."""

from __future__ import annotations

import asyncio
import random
import threading
import traceback
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from agent import Agent, Front
from conversing import Conversing, read_newest, told_session
from deciding import Deciding
from following import Following
from history import History
from living import Living
from uploading import Uploading

STOP_SECONDS_MAX = 120.0
"""Longer than a client tries: whoever takes longer hangs, and that is a fault of the harness."""

CUT_AT_ONCE = 4


@dataclass(frozen=True)
class Places:
    """The sessions that are there before the load begins, and the keys of those who decide."""

    conversations: list[str]
    desks: list[str]
    shelves: list[str]
    people: dict[str, str]


class Load:
    """Four converse, two live through sessions, two ask for decisions, two bring files, two follow streams."""

    def __init__(self, front: Front, history: History, dice: random.Random) -> None:
        self._front = front
        self._history = history
        self._dice = dice
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._stop_following = asyncio.Event()
        self._agents: list[Agent] = []
        self._followers: list[Following] = []
        self._working: list[asyncio.Task[None]] = []
        self._watching: list[asyncio.Task[None]] = []
        self.broken: list[str] = []
        """What went wrong in the harness itself."""
        self._thread = threading.Thread(target=self._loop.run_forever, name="clients", daemon=True)
        self._thread.start()

    def follow_all(self) -> None:
        """Open the stream across all sessions, before there are any."""
        follower = Following("feed", self._front, self._history, self._child_dice())
        self._followers.append(follower)
        self._call(self._watch(follower))

    def start(self, places: Places) -> None:
        """Let all of them begin."""
        self._call(self._begin(places))

    def cut(self) -> None:
        """Break the connections of some of the clients, whatever is on its way."""
        chosen = self._dice.sample(self._agents, CUT_AT_ONCE)
        self._loop.call_soon_threadsafe(lambda: [one.cut() for one in [*chosen, *self._followers]])

    def finish(self) -> None:
        """Let each client finish what it is at."""
        self._call(self._join(self._stop, self._working))

    def look_at_all(self, sessions: list[str]) -> None:
        """Read every session through every process, twice: what is cached then must be what is stored."""
        self._call(self._look(sessions))

    def close(self) -> None:
        """End the streams and the thread."""
        if self._thread.is_alive():
            self._call(self._join(self._stop_following, self._watching))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_SECONDS_MAX)

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(STOP_SECONDS_MAX)

    def _child_dice(self) -> random.Random:
        return random.Random(self._dice.getrandbits(64))  # noqa: S311 - no secret

    def _agent(self, name: str, key: str | None = None) -> Agent:
        front = self._front if key is None else Front(self._front.ports, key)
        agent = Agent(name, front, self._history, self._child_dice())
        self._agents.append(agent)
        return agent

    async def _begin(self, places: Places) -> None:
        lives: deque[str] = deque()
        runs = [Conversing(self._agent(f"talker{n}"), places.conversations).run for n in range(4)]
        runs += [Living(self._agent(f"liver{n}"), lives).run for n in range(2)]
        for number, desk in enumerate(places.desks):
            people = [self._agent(name, key) for name, key in places.people.items()]
            asker = self._agent(f"asker{number}")
            runs.append(Deciding(asker, self._agent(f"asker{number}-again"), people, desk).run)
        runs += [Uploading(self._agent(f"bringer{n}"), shelf).run for n, shelf in enumerate(places.shelves)]
        self._working = [asyncio.create_task(self._guarded(run, self._stop)) for run in runs]
        for number, session in enumerate(places.conversations):
            follower = Following(f"stream{number}", self._front, self._history, self._child_dice(), session)
            self._followers.append(follower)
            self._watching.append(asyncio.create_task(self._guarded(follower.run, self._stop_following)))

    async def _watch(self, follower: Following) -> None:
        self._watching.append(asyncio.create_task(self._guarded(follower.run, self._stop_following)))
        await asyncio.wait_for(follower.is_open.wait(), 20)

    async def _guarded(self, run: Callable[[asyncio.Event], Coroutine[Any, Any, None]], stop: asyncio.Event) -> None:
        try:
            await run(stop)
        except Exception:  # noqa: BLE001 - told at the end
            self.broken.append(traceback.format_exc())

    @staticmethod
    async def _join(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
        stop.set()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS_MAX - 5)

    async def _look(self, sessions: list[str]) -> None:
        agent = self._agent("auditor")
        for session in sessions:
            for web in range(len(self._front.ports)):
                for _ in range(2):
                    op = agent.begin("read_session", session)
                    answer = await agent.get(op, f"/sessions/{session}", web=web)
                    if answer is not None:
                        told_session(agent, op, answer)
                    agent.web = web
                    await read_newest(agent, session)
