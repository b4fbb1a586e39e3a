"""Agents that converse: they append, patch and read, in sessions that several of them share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from agent import Agent
from history import OK, Op, digest_of
from wire import Answer

TURN_SECONDS = (0.02, 0.11)
"""Between two operations: with four who converse and eight others, a hundred requests and more a second."""

BATCH_MAX = 5
PAGES = ("", "?limit=5", "?limit=20")
FILLER = "lorem ipsum dolor sit amet, consectetur adipiscing elit"


class Conversing:
    """One who converses in shared sessions, each turn something else."""

    def __init__(self, agent: Agent, sessions: Sequence[str]) -> None:
        self._agent = agent
        self._sessions = sessions
        self._spoken = 0
        self._versions: dict[str, int] = {}
        self._last_append: tuple[str, str, dict[str, Any], bytes] | None = None

    async def run(self, stop: asyncio.Event) -> None:
        dice = self._agent.dice
        turns = {self._append: 30, self._batch: 5, self._patch: 10, self._again: 3, self._look: 22, self._page: 30}
        while not stop.is_set():
            session = dice.choice(self._sessions)
            (turn,) = dice.choices(list(turns), list(turns.values()))
            await turn(session)
            if turn in {self._append, self._batch, self._patch} and dice.random() < 0.6:
                # What was just acknowledged must be seen, at the other process above all.
                self._agent.web = self._agent.other_web
                await dice.choice((self._look, self._page))(session)
            await asyncio.sleep(dice.uniform(*TURN_SECONDS))

    def _say(self) -> str:
        self._spoken += 1
        return f"{self._agent.name} says {self._spoken}: {FILLER[: self._agent.dice.randrange(len(FILLER))]}"

    async def _append(self, session: str) -> None:
        content = self._say()
        op = self._agent.begin("append", session, digests=[digest_of(content)])
        key, document = self._agent.new_key(), {"content": content}
        path = f"/sessions/{session}/messages"
        answer = await self._agent.post(op, path, document, key=key)
        if answer is not None and told_messages(self._agent, op, answer):
            self._last_append = (path, key, document, answer.body)

    async def _batch(self, session: str) -> None:
        contents = [self._say() for _ in range(self._agent.dice.randint(2, BATCH_MAX))]
        op = self._agent.begin("batch", session, digests=[digest_of(content) for content in contents])
        batch = {"messages": [{"content": content} for content in contents]}
        answer = await self._agent.post(op, f"/sessions/{session}/messages/batch", batch)
        if answer is not None:
            told_messages(self._agent, op, answer)

    async def _again(self, _session: str) -> None:
        """Send the last append once more: the answer must be the first one, byte for byte."""
        if self._last_append is None:
            return
        path, key, document, body = self._last_append
        op = self._agent.begin("again", path.split("/")[2])
        answer = await self._agent.post(op, path, document, key=key)
        if answer is not None:
            is_same = answer.body == body and answer.headers.get("idempotent-replayed") == "true"
            self._agent.history.ends(op, OK, answer.status, answer.code, is_same=is_same)

    async def _patch(self, session: str) -> None:
        """Add a field of its own to the metadata, if the session still has the version that was seen last."""
        self._spoken += 1
        name = f"{self._agent.name}-{self._spoken}"
        version = self._versions.get(session)
        headers = {} if version is None or self._agent.dice.random() < 0.5 else {"If-Match": f'"{version}"'}
        op = self._agent.begin("patch", session, field=name, if_match=version if headers else None)
        change = {"metadata": {name: 1}}
        answer = await self._agent.ask(
            op, "PATCH", f"/sessions/{session}", change, headers=headers, can_repeat=not headers
        )
        if answer is not None:
            told_session(self._agent, op, answer, field=name)
            self._remember(session, op)

    async def _look(self, session: str) -> None:
        seen = self._versions.get(session)
        asks_for_newer = seen is not None and self._agent.dice.random() < 0.3
        op = self._agent.begin("read_session", session, if_none_match=seen if asks_for_newer else None)
        headers = {"If-None-Match": f'"{seen}"'} if asks_for_newer else None
        answer = await self._agent.get(op, f"/sessions/{session}", headers=headers)
        if answer is not None and answer.status == 304:
            self._agent.history.ends(op, OK, 304, version=seen, cache=answer.headers.get("x-cache"))
        elif answer is not None:
            told_session(self._agent, op, answer)
            self._remember(session, op)

    def _remember(self, session: str, op: Op) -> None:
        if op.is_ok and "version" in op.told:
            self._versions[session] = op.told["version"]

    async def _page(self, session: str) -> None:
        await read_newest(self._agent, session, self._agent.dice.choice(PAGES))


async def read_newest(agent: Agent, session: str, query: str = "") -> None:
    """Read the newest page of a session's history."""
    op = agent.begin("read_history", session, query=query)
    answer = await agent.get(op, f"/sessions/{session}/messages{query}")
    if answer is None:
        return
    if answer.status != 200:
        agent.refused(op, answer)
        return
    rows = [(row["seq"], digest_of(str(row["content"]))) for row in answer.document["data"]]
    agent.history.ends(op, OK, 200, rows=rows, cache=answer.headers.get("x-cache"))


def told_messages(agent: Agent, op: Op, answer: Answer) -> bool:
    """Note what an append was told: numbers, ids, content."""
    if answer.status != 201:
        agent.refused(op, answer)
        return False
    document = answer.document
    messages = document["data"] if "data" in document else document.get("messages", [document])
    told = [(row["seq"], row["id"], digest_of(str(row["content"]))) for row in messages]
    calls = [call["id"] for row in messages for call in row.get("tool_calls") or []]
    agent.history.ends(op, OK, 201, messages=told, calls=calls)
    return True


def told_session(agent: Agent, op: Op, answer: Answer, **more: Any) -> None:
    """Note what a session looked like: its version, and a digest of all of it."""
    if answer.status not in {200, 201}:
        agent.refused(op, answer, **more)
        return
    document = answer.document
    agent.history.ends(
        op,
        OK,
        answer.status,
        id=document["id"],
        version=document["version"],
        state=document["status"],
        messages=document["message_count"],
        digest=digest_of(answer.body),
        etag=answer.headers.get("etag"),
        cache=answer.headers.get("x-cache"),
        **more,
    )
