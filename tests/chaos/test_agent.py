"""What a client may say of an operation that was refused: that it did not happen, or that nobody knows."""

from __future__ import annotations

import random
from typing import Any

import agent
import pytest
from agent import Agent, Front
from history import FAIL, INFO, History
from wire import CONNECTION, CUT, Answer, NoAnswer

LOST, NEVER_SENT = NoAnswer(CUT, may_have_arrived=True), NoAnswer(CONNECTION, may_have_arrived=False)
AWAY, REFUSED = Answer(503, {}), Answer(409, {})


class Replaying:
    """A line that has its answers ready."""

    def __init__(self, answers: list[Answer | NoAnswer]) -> None:
        self._answers = answers

    async def ask(self, *_: Any, **__: Any) -> Answer:
        answer = self._answers.pop(0)
        if isinstance(answer, NoAnswer):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("method", "has_key", "first", "outcome"),
    [
        ("DELETE", False, None, FAIL),
        ("DELETE", False, NEVER_SENT, FAIL),
        ("DELETE", False, LOST, INFO),
        ("DELETE", False, AWAY, INFO),
        ("POST", True, LOST, INFO),
        ("POST", True, AWAY, FAIL),  # what had happened would be answered for again
        ("GET", False, LOST, FAIL),
    ],
)
async def test_a_refusal_speaks_of_its_own_attempt(
    method: str, has_key: bool, first: Answer | NoAnswer | None, outcome: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(agent, "PAUSE_SECONDS", (0.0, 0.0))
    line: Any = Replaying([REFUSED] if first is None else [first, REFUSED])
    client = Agent("talker0", Front([0], ""), History(), random.Random(1))  # noqa: S311 - no secret
    client._lines = [line]
    client.web = 0
    op = client.begin("some")

    answer = await client.ask(op, method, "/x", headers={"Idempotency-Key": "k"} if has_key else None)
    assert answer is REFUSED
    client.refused(op, answer)

    assert op.outcome == outcome
