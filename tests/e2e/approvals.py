"""Agents that ask to run a tool, people who decide, and those who wait for it: over HTTP, through any web process."""

from __future__ import annotations

import http.client
import json
import select
from typing import Any

import httpx2
from stack import ANSWER_SECONDS_MAX, Stack, Web

PEOPLE = ("ada", "bob", "cyd")
DECISION_SCOPES = ("sessions:read", "tool_calls:decide")


def keys_of_people(stack: Stack, key: str) -> dict[str, str]:
    """A key for each person, made with an admin's key: they may read and decide, nothing else."""
    with stack.client(key) as admin:
        answers = {name: admin.post("/api-keys", json={"name": name, "scopes": DECISION_SCOPES}) for name in PEOPLE}
    return {name: str(answer.json()["secret"]) for name, answer in answers.items()}


def ask(agent: httpx2.Client, session: str, count: int = 1) -> list[dict[str, Any]]:
    """The tool calls of a new assistant message: they wait for approval."""
    calls = [{"tool_name": "shell", "arguments": {"n": n}, "requires_approval": True} for n in range(count)]
    message = {"role": "assistant", "content": "", "tool_calls": calls}
    answer = agent.post(f"/sessions/{session}/messages", json=message)
    assert answer.status_code == 201, answer.text
    return list(answer.json()["tool_calls"])


def path_of(call: dict[str, Any]) -> str:
    return f"/sessions/{call['session_id']}/tool-calls/{call['id']}"


def decisions_told(client: httpx2.Client, session: str) -> dict[str, list[dict[str, Any]]]:
    """The events of a session that end the wait for a decision, by the call that they tell of."""
    types = ["tool_call.approved", "tool_call.rejected", "tool_call.expired", "tool_call.cancelled"]
    told: dict[str, list[dict[str, Any]]] = {}
    after = 0
    while True:
        page = client.get(
            f"/sessions/{session}/events", params={"type": types, "after_seq": after, "limit": 200}
        ).json()
        for event in page["data"]:
            told.setdefault(event["data"]["tool_call_id"], []).append(event)
        if not page["has_more"]:
            return told
        after = page["data"][-1]["seq"]


class Waiter:
    """A connection on which a request waits for a decision, without a thread of its own.

    Its answer must come within `ANSWER_SECONDS_MAX` of the moment when it is read: longer waits were not woken.
    """

    def __init__(self, web: Web, key: str, call: dict[str, Any], seconds: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=ANSWER_SECONDS_MAX)
        headers = {"Authorization": f"Bearer {key}"}
        self._connection.request("GET", f"/api/v1{path_of(call)}?wait={seconds}", headers=headers)

    @property
    def is_answered(self) -> bool:
        """Whether any of the answer has come."""
        return bool(select.select([self._connection.sock], [], [], 0)[0])

    def answer(self) -> tuple[int, dict[str, Any]]:
        """The status and the document, as soon as they come."""
        answer = self._connection.getresponse()
        try:
            return answer.status, json.loads(answer.read())
        finally:
            self._connection.close()
