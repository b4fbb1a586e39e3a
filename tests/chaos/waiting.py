"""An agent whose call is decided late, and pollers that wait for it meanwhile: at any moment some wait everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from agent import Agent
from deciding import ask, decide
from history import OK

WAIT_SECONDS = 30
"""Twice the grace of a process that stops: a wait that does not hear of the stop is cut off at its end."""

PATIENCE_SECONDS = 40.0
"""What a poller waits for its answer: longer than the wait, and what the service waits for PostgreSQL."""

UNDECIDED_SECONDS = (20.0, 28.0)
"""How long a call stays pending: longer than the grace, so that no decision comes to the aid of a stop."""


class Waiting:
    """One who asks for a call at a time, pollers who wait for its decision at any process, and a person who decides."""

    def __init__(self, agent: Agent, pollers: Sequence[Agent], person: Agent, session: str) -> None:
        self._agent = agent
        self._pollers = pollers
        self._person = person
        self._session = session

    async def run(self, stop: asyncio.Event) -> None:
        asked = 0
        while not stop.is_set():
            asked += 1
            op = await ask(self._agent, self._session, f"{self._agent.name} asks {asked}", 1)
            for call in op.told.get("calls", []):
                await self._wait_for(call, stop)

    async def _wait_for(self, call: str, stop: asyncio.Event) -> None:
        is_decided = asyncio.Event()
        polling = [asyncio.create_task(self._poll(poller, call, is_decided)) for poller in self._pollers]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._agent.dice.uniform(*UNDECIDED_SECONDS)):
                await stop.wait()
        await decide(self._person, self._session, call)
        is_decided.set()
        await asyncio.gather(*polling)

    async def _poll(self, poller: Agent, call: str, is_decided: asyncio.Event) -> None:
        """Wait again and again, until the call is no longer pending; once more where nobody knows whether it is."""
        is_pending = True
        while is_pending:
            is_last = is_decided.is_set()
            op = poller.begin("wait", self._session, call=call)
            web = poller.dice.randrange(2)
            path = f"/sessions/{self._session}/tool-calls/{call}?wait={WAIT_SECONDS}"
            answer = await poller.ask(op, "GET", path, web=web, seconds=PATIENCE_SECONDS)
            if answer is not None and answer.status == 200:
                is_pending = answer.document["status"] == "pending"
                poller.history.ends(op, OK, 200, is_pending=is_pending)
            elif answer is not None:
                poller.refused(op, answer)
            is_pending = is_pending and not is_last
