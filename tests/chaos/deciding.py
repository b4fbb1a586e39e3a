"""An agent that asks to run tools, people who decide at the same moment, and two runtimes that both want to start."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from agent import Agent
from conversing import told_messages
from history import OK, Op, digest_of
from wire import Answer

TURN_SECONDS = (0.25, 0.5)
CALLS_MAX = 2


class Deciding:
    """One who asks, and those who race to decide, each with credentials of its own."""

    def __init__(self, agent: Agent, twin: Agent, people: Sequence[Agent], session: str) -> None:
        self._agent = agent
        self._runtimes = (agent, twin)
        self._people = people
        self._session = session
        self._asked = 0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._asked += 1
            content, count = f"{self._agent.name} asks {self._asked}", self._agent.dice.randint(1, CALLS_MAX)
            op = await ask(self._agent, self._session, content, count)
            for call in op.told.get("calls", []):
                decisions = await asyncio.gather(*(decide(person, self._session, call) for person in self._people))
                if any(one.is_ok and one.told["became"] == "approved" for one in decisions):
                    # The agent's runtime was started twice, and both mean to run the tool.
                    await asyncio.gather(self._step(call, "start", 0), self._step(call, "start", 1))
                    await self._step(call, "complete", 0)
            await asyncio.sleep(self._agent.dice.uniform(*TURN_SECONDS))

    async def _step(self, call: str, action: str, runtime: int) -> None:
        who = self._runtimes[runtime]
        op = who.begin("step", self._session, call=call, action=action)
        document = {"action": action} | ({"result": {"by": runtime}} if action == "complete" else {})
        answer = await who.post(op, f"/sessions/{self._session}/tool-calls/{call}", document)
        if answer is not None:
            _told_call(who, op, answer)


async def ask(agent: Agent, session: str, content: str, count: int) -> Op:
    """Add a message that asks to run so many tools; each call waits for a decision."""
    calls = [{"tool_name": "shell", "arguments": {"n": number}, "requires_approval": True} for number in range(count)]
    op = agent.begin("ask", session, digests=[digest_of(content)], calls=len(calls))
    message = {"role": "assistant", "content": content, "tool_calls": calls}
    answer = await agent.post(op, f"/sessions/{session}/messages", message)
    if answer is not None:
        told_messages(agent, op, answer)
    return op


async def decide(person: Agent, session: str, call: str) -> Op:
    """Approve or reject a call, through any process."""
    action = person.dice.choice(("approve", "reject"))
    op = person.begin("decide", session, call=call, action=action, by=person.name)
    person.web = person.dice.randrange(2)
    document = {"action": action, "reason": f"{person.name} says so"}
    answer = await person.post(op, f"/sessions/{session}/tool-calls/{call}", document)
    if answer is not None:
        _told_call(person, op, answer)
    return op


def _told_call(who: Agent, op: Op, answer: Answer) -> None:
    document = answer.document
    if answer.status == 200:
        told = {"became": document["status"], "decided_by": document["decided_by"]}
        who.history.ends(op, OK, 200, **told)
        return
    won = document.get("decision") or {}
    who.refused(op, answer, became=won.get("status"), decided_by=won.get("decided_by"))
