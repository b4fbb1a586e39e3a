"""The clients, on a loop and a thread of their own."""

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
from waiting import Waiting

JOIN_SECONDS_MAX = 115.0
"""Longer than a client tries: whoever takes longer hangs, and that is a fault of the harness."""

CALL_SECONDS_MAX = 300.0
"""What the clients' thread may take for anything: above all for reading every session, on a crowded machine."""

OPEN_SECONDS_MAX = 60.0
"""Until the first stream is open; a second on a quiet machine."""

CUT_AT_ONCE = 4

POLLERS = 4
"""Of one call: two at each web process, on the average."""

Run = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""What a client does until it is told to stop."""


@dataclass(frozen=True)
class Places:
    """The sessions that are there before the load begins, and the keys of those who decide."""

    conversations: list[str]
    desks: list[str]
    shelves: list[str]
    waiting: str
    people: dict[str, str]


class Load:
    """Four converse, two live through sessions, two ask for decisions, two bring files, some follow streams.

    And one asks for decisions that come late, while pollers wait for each.
    """

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
            self._thread.join(CALL_SECONDS_MAX)
        if not self._thread.is_alive():
            self._loop.close()

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS_MAX)

    def _child_dice(self) -> random.Random:
        return random.Random(self._dice.getrandbits(64))  # noqa: S311 - no secret

    def _agent(self, name: str, key: str | None = None) -> Agent:
        front = self._front if key is None else Front(self._front.ports, key)
        agent = Agent(name, front, self._history, self._child_dice())
        self._agents.append(agent)
        return agent

    async def _begin(self, places: Places) -> None:
        lives: deque[str] = deque()
        runs: dict[str, Run] = {}
        for name in ("talker0", "talker1", "talker2", "talker3"):
            runs[name] = Conversing(self._agent(name), places.conversations).run
        for name in ("liver0", "liver1"):
            runs[name] = Living(self._agent(name), lives).run
        for number, desk in enumerate(places.desks):
            people = [self._agent(name, key) for name, key in places.people.items()]
            name = f"asker{number}"
            asker = self._agent(name)
            runs[name] = Deciding(asker, self._agent(f"{name}-again"), people, desk).run
        for number, shelf in enumerate(places.shelves):
            name = f"bringer{number}"
            runs[name] = Uploading(self._agent(name), shelf).run
        waited = self._agent("waiting")
        pollers = [self._agent(f"poller{number}") for number in range(POLLERS)]
        name, key = next(iter(places.people.items()))
        runs["waiting"] = Waiting(waited, pollers, self._agent(name, key), places.waiting).run
        self._working = [asyncio.create_task(self._guarded(run, self._stop), name=name) for name, run in runs.items()]
        for number, session in enumerate(places.conversations):
            follower = Following(f"stream{number}", self._front, self._history, self._child_dice(), session)
            self._followers.append(follower)
            self._follow(follower)

    async def _watch(self, follower: Following) -> None:
        self._follow(follower)
        await asyncio.wait_for(follower.is_open.wait(), OPEN_SECONDS_MAX)

    def _follow(self, follower: Following) -> None:
        following = self._guarded(follower.run, self._stop_following)
        self._watching.append(asyncio.create_task(following, name=follower.watched.name))

    async def _guarded(self, run: Run, stop: asyncio.Event) -> None:
        try:
            await run(stop)
        except Exception:  # noqa: BLE001 - told at the end
            self.broken.append(traceback.format_exc())

    async def _join(self, stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
        stop.set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=JOIN_SECONDS_MAX)
            self.broken += [f"{one.get_name()} had not ended after {JOIN_SECONDS_MAX:.0f} s" for one in late]

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
