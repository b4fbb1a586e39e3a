"""Agents that take sessions through their lives, two of them the same session at a time: moves race with appends."""

from __future__ import annotations

import asyncio
from collections import deque

from agent import Agent
from conversing import read_newest, told_messages, told_session
from history import OK, digest_of

TURN_SECONDS = (0.06, 0.14)
MOVES = ("activate", "suspend", "resume")
SESSIONS_AT_ONCE = 3
END_ODDS = 0.03
DELETE_ODDS = 0.06


class Living:
    """One who opens sessions, moves them about beside another who does the same, and ends them."""

    def __init__(self, agent: Agent, shared: deque[str]) -> None:
        self._agent = agent
        self._sessions = shared
        self._spoken = 0

    async def run(self, stop: asyncio.Event) -> None:
        dice = self._agent.dice
        while not stop.is_set():
            if len(self._sessions) < SESSIONS_AT_ONCE:
                await self._open()
            if self._sessions:
                session = dice.choice(list(self._sessions))
                chance = dice.random()
                if chance < END_ODDS:
                    await self._end(session)
                elif chance < 0.35:
                    await self._move(session)
                elif chance < 0.65:
                    await self._append(session)
                elif chance < 0.85:
                    await self._look(session)
                else:
                    await read_newest(self._agent, session)
            await asyncio.sleep(dice.uniform(*TURN_SECONDS))

    async def _open(self) -> None:
        prompt = f"{self._agent.name} opens {self._spoken}"
        self._spoken += 1
        has_prompt = self._agent.dice.random() < 0.3
        activate = self._agent.dice.random() < 0.5
        op = self._agent.begin("open", digests=[digest_of(prompt)] if has_prompt else [], activate=activate)
        document = {"agent_id": "chaos", "activate": activate}
        if has_prompt:
            document["system_prompt"] = prompt
        answer = await self._agent.post(op, "/sessions", document)
        if answer is not None:
            told_session(self._agent, op, answer)
            if op.is_ok:
                self._sessions.append(op.told["id"])

    async def _move(self, session: str) -> None:
        move = self._agent.dice.choice(MOVES)
        op = self._agent.begin("move", session, move=move)
        answer = await self._agent.post(op, f"/sessions/{session}/{move}")
        if answer is not None:
            told_session(self._agent, op, answer)

    async def _append(self, session: str) -> None:
        self._spoken += 1
        content = f"{self._agent.name} lives {self._spoken}"
        op = self._agent.begin("append", session, digests=[digest_of(content)])
        answer = await self._agent.post(op, f"/sessions/{session}/messages", {"content": content})
        if answer is None or not told_messages(self._agent, op, answer):
            return
        if self._agent.dice.random() < DELETE_ODDS:
            message = op.told["messages"][0][1]
            op = self._agent.begin("delete_message", session, message=message)
            answer = await self._agent.ask(op, "DELETE", f"/sessions/{session}/messages/{message}")
            if answer is not None and answer.status == 204:
                self._agent.history.ends(op, OK, 204)
            elif answer is not None:
                self._agent.refused(op, answer)

    async def _look(self, session: str) -> None:
        op = self._agent.begin("read_session", session)
        answer = await self._agent.get(op, f"/sessions/{session}", web=self._agent.other_web)
        if answer is not None:
            told_session(self._agent, op, answer)

    async def _end(self, session: str) -> None:
        op = self._agent.begin("end", session)
        answer = await self._agent.ask(op, "DELETE", f"/sessions/{session}")
        if answer is not None and answer.status == 204:
            self._agent.history.ends(op, OK, 204)
        elif answer is not None:
            self._agent.refused(op, answer)
        if session in self._sessions:
            self._sessions.remove(session)
