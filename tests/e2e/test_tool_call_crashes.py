"""Decisions on tool calls among processes that are killed: each is taken once, told once, and never lost."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
from approvals import ask, decisions_told, keys_of_people, path_of
from clients import CONNECTION_BROKE, RETRY_SECONDS
from stack import DEADLINE_SECONDS, Stack, wait_until

ROUNDS = 3
BURST = 99
KILL_SECONDS_MAX = 0.3
"""A burst takes longer, so that a kill within it meets decisions in every state."""

WAITING = """
    SELECT o.event_type FROM outbox o JOIN events e ON e.session_id = o.session_id AND e.seq = o.event_seq
    WHERE o.session_id = $1 AND e.data ->> 'tool_call_id' = $2 ORDER BY o.id
"""


def approve(client: httpx2.Client, call: dict[str, Any], **fields: Any) -> httpx2.Response:
    return client.post(path_of(call), json={"action": "approve", "reason": "looks good"} | fields)


def types_told(client: httpx2.Client, session: str, calls: list[dict[str, Any]]) -> list[list[str]]:
    """The events that decided each call, by their types."""
    told = decisions_told(client, session)
    return [[event["type"] for event in told.get(call["id"], [])] for call in calls]


def test_a_decision_outlives_the_web_process_and_the_worker_that_were_killed_around_it(
    stack: Stack, key: str, open_session: Callable[..., str]
) -> None:
    session = open_session()
    ada = keys_of_people(stack, key)["ada"]
    deciding, calls = stack.webs[0], []
    for _ in range(ROUNDS):
        with stack.client(key, web=1) as agent, stack.client(ada, web=0) as person:
            (call,) = ask(agent, session)
            stack.wait_until_relayed()
            stack.worker.kill()
            answer = approve(person, call)
            deciding.kill()

            assert answer.status_code == 200
            assert agent.get(path_of(call)).json() == answer.json()
            waiting = [row["event_type"] for row in stack.ledger.rows(WAITING, session, call["id"])]
            assert waiting == ["tool_call.approved"]
        calls.append(call)
        stack.heal()
        stack.wait_until_relayed()

        assert stack.ledger.rows(WAITING, session, call["id"]) == []
        with stack.client(ada, web=0) as person:
            assert approve(person, call).json() == answer.json()

    with stack.client(key) as agent:
        assert types_told(agent, session, calls) == [["tool_call.approved"]] * ROUNDS
    assert stack.ledger.violations() == []


def test_decisions_are_relayed_once_by_workers_that_are_killed_among_them(
    stack: Stack, key: str, open_session: Callable[..., str], dice: random.Random
) -> None:
    session = open_session()
    ada = keys_of_people(stack, key)["ada"]
    with stack.client(key) as agent, stack.client(ada, web=1) as person, ThreadPoolExecutor(1) as thread:
        calls = []
        for _ in range(ROUNDS):
            asked = ask(agent, session, BURST // ROUNDS)
            deciding = thread.submit(lambda asked=asked: [approve(person, call) for call in asked])
            time.sleep(dice.uniform(0, KILL_SECONDS_MAX))  # the moment of the kill
            stack.worker.kill()
            stack.worker.start()
            assert [answer.status_code for answer in deciding.result()] == [200] * len(asked)
            calls += asked
        stack.wait_until_relayed()

        assert types_told(agent, session, calls) == [["tool_call.approved"]] * BURST
    assert stack.ledger.violations() == []


def test_a_decision_without_an_answer_can_be_sent_again_and_is_taken_once(
    stack: Stack, key: str, open_session: Callable[..., str], dice: random.Random
) -> None:
    """A web process is killed among decisions; whoever got no answer sends the very same to the other process."""
    session = open_session()
    ada = keys_of_people(stack, key)["ada"]
    attempts: Counter[int | str] = Counter()

    def decide(call: dict[str, Any]) -> httpx2.Response:
        deadline = time.monotonic() + DEADLINE_SECONDS
        web = 0
        while True:
            try:
                answer = approve(people[web], call, arguments={"n": 7})
            except httpx2.TransportError:
                attempts[CONNECTION_BROKE] += 1
            else:
                attempts[answer.status_code] += 1
                return answer
            assert time.monotonic() < deadline, "nobody answers"
            time.sleep(RETRY_SECONDS)
            web = 1 - web

    with (
        stack.client(key, web=1) as agent,
        stack.client(ada, web=0) as first,
        stack.client(ada, web=1) as second,
        ThreadPoolExecutor(20) as threads,
    ):
        people = [first, second]
        calls = ask(agent, session, BURST)
        moment = dice.randrange(BURST // 2)
        deciding = [threads.submit(decide, call) for call in calls]
        wait_until(lambda: attempts[200] >= moment, "some have been taken")
        stack.webs[0].kill()
        answers = [one.result() for one in deciding]

        assert set(attempts) <= {200, CONNECTION_BROKE}
        read = [agent.get(path_of(call)).json() for call in calls]
        assert [answer.json() for answer in answers] == read
        assert {(call["status"], call["decided_by"], call["arguments"]["n"]) for call in read} == {
            ("approved", "ada", 7)
        }
        assert types_told(agent, session, calls) == [["tool_call.approved"]] * BURST
        stack.wait_until_relayed()
    assert stack.ledger.violations() == []
