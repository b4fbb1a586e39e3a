"""Many people decide on one tool call at once, through two web processes: one of them does, and all hear who."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx2
from approvals import PEOPLE, ask, decisions_told, keys_of_people, path_of
from rounds import rounds
from stack import Stack, wait_until

CALLS = rounds(50)
"""A lock that fails in one race of five is missed by 10 races in 11 % of all runs, by 50 in none of 70,000."""
RACERS = 20

LATE_CALLS = rounds(60)
APPROVALS_PER_CALL = 2
AROUND_THE_DEADLINE_SECONDS = (-0.15, 0.03)
"""When approvals are sent: so near to the deadline that their order with it is open, as each takes its time."""
LATE_SECONDS = 1
IN_TIME_SECONDS = 600
"""How long calls wait for a decision: those around whose deadline it is made, and one that is surely approved."""

PENDING = "SELECT count(*) FROM tool_calls WHERE session_id = $1 AND status = 'pending'"

Record = Callable[[str, object], None]


class Racer(NamedTuple):
    """One who decides, in a way in which nobody else does."""

    name: str
    web: int
    client: httpx2.Client
    decision: dict[str, Any]


@contextmanager
def racers(stack: Stack, key: str, actions: tuple[str, ...]) -> Iterator[list[Racer]]:
    """Twenty of three people, half of them through each web process, each with a connection of its own."""
    keys = keys_of_people(stack, key)
    with ExitStack() as clients:
        field = []
        for number in range(RACERS):
            name, web = PEOPLE[number % len(PEOPLE)], number % 2
            decision: dict[str, Any] = {"action": actions[number // 2 % len(actions)], "reason": f"racer {number}"}
            if decision["action"] == "approve" and number % 3:
                decision["arguments"] = {"edited by": number}
            client = clients.enter_context(stack.client(keys[name], web))
            client.get("/tool-calls")  # connected before the race
            field.append(Racer(name, web, client, decision))
        yield field


def assert_one_won(
    call: dict[str, Any], field: list[Racer], answers: list[httpx2.Response], told: list[dict[str, Any]]
) -> tuple[Racer, dict[str, Any]]:
    """Exactly one decision was taken, the others were told of it, and one event tells of it; the winner's racer."""
    (place,) = (place for place, answer in enumerate(answers) if answer.status_code == 200)
    winner, won = field[place], answers[place].json()
    status = {"approve": "approved", "reject": "rejected"}[winner.decision["action"]]
    assert (won["status"], won["decided_by"], won["reason"]) == (status, winner.name, winner.decision["reason"])
    edited = winner.decision.get("arguments")
    assert (won["arguments"], won["original_arguments"]) == (
        (edited, call["arguments"]) if edited else (call["arguments"], None)
    )
    lost = [answer.json() for answer in answers[:place] + answers[place + 1 :]]
    decision = {"status": status, "decided_by": winner.name, "decided_at": won["decided_at"]}
    assert [(one["status"], one["code"], one["decision"]) for one in lost] == [
        (409, "already_decided", decision)
    ] * len(lost)
    assert [(event["type"], event["actor"]["subject"], event["data"]["decided_by"]) for event in told] == [
        (f"tool_call.{status}", winner.name, winner.name)
    ]
    return winner, won


def test_of_twenty_who_decide_through_two_processes_exactly_one_wins(
    stack: Stack, key: str, open_session: Callable[..., str], record_property: Record
) -> None:
    session = open_session()
    start = threading.Barrier(RACERS)
    races: list[tuple[dict[str, Any], list[httpx2.Response]]] = []

    def decide(racer: Racer, call: dict[str, Any]) -> httpx2.Response:
        start.wait()
        return racer.client.post(path_of(call), json=racer.decision)

    with (
        stack.client(key) as agent,
        racers(stack, key, ("approve", "reject")) as field,
        ThreadPoolExecutor(RACERS) as threads,
    ):
        for _ in range(CALLS):
            (call,) = ask(agent, session)
            races.append((call, list(threads.map(decide, field, [call] * RACERS))))
        told = decisions_told(agent, session)
        read = [[racer.client.get(path_of(call)).json() for racer in field[:2]] for call, _ in races]

    outcomes = [assert_one_won(call, field, answers, told.pop(call["id"])) for call, answers in races]
    assert [[won, won] for _, won in outcomes] == read
    assert told == {}
    stack.wait_until_relayed()
    assert stack.ledger.violations() == []
    statuses = Counter(answer.status_code for _, answers in races for answer in answers)
    assert statuses == {200: CALLS, 409: CALLS * (RACERS - 1)}
    won_by = Counter(f"{winner.decision['action']} through web{winner.web}" for winner, _ in outcomes)
    figures = {"tries": statuses.total(), "winners": statuses[200], "refusals": statuses[409], "won by": dict(won_by)}
    record_property("races", figures)
    print(f"races: {figures}")  # noqa: T201 - shown with -s


def test_an_approval_around_the_deadline_is_taken_before_it_or_the_call_expires(
    stack: Stack, key: str, open_session: Callable[..., str], dice: random.Random, record_property: Record
) -> None:
    session = open_session(config={"approval_timeout_seconds": IN_TIME_SECONDS})
    around = [
        [dice.uniform(*AROUND_THE_DEADLINE_SECONDS) for _ in range(APPROVALS_PER_CALL)] for _ in range(LATE_CALLS)
    ]
    # The first call is approved at once, and the last by nobody.
    moments = [[-float(IN_TIME_SECONDS)], *around, []]

    def approve(call: dict[str, Any], place: int, after_deadline_seconds: float) -> tuple[Racer, httpx2.Response, str]:
        racer, other = field[place % RACERS], field[(place + 1) % RACERS]
        deadline = datetime.fromisoformat(call["expires_at"])
        time.sleep(max(0, after_deadline_seconds + (deadline - datetime.now(UTC)).total_seconds()))
        answer = racer.client.post(path_of(call), json=racer.decision)
        return racer, answer, other.client.get(path_of(call)).json()["status"]

    with (
        stack.client(key) as agent,
        racers(stack, key, ("approve",)) as field,
        ThreadPoolExecutor(LATE_CALLS * APPROVALS_PER_CALL) as threads,
    ):
        calls, approving = [], []
        for place, offsets in enumerate(moments):
            (call,) = ask(agent, session)
            calls.append(call)
            if place == 0:
                hurried = agent.patch(
                    f"/sessions/{session}", json={"config": {"approval_timeout_seconds": LATE_SECONDS}}
                )
                assert hurried.status_code == 200, hurried.text
            approving.append([threads.submit(approve, call, place + nth, offset) for nth, offset in enumerate(offsets)])
        tried = [[one.result() for one in ones] for ones in approving]
        wait_until(lambda: not stack.ledger.value(PENDING, session), "every expiry is recorded")
        told = decisions_told(agent, session)
        final = [agent.get(path_of(call)).json() for call in calls]

    for call, tries, now in zip(calls, tried, final, strict=True):
        answers = [answer for _, answer, _ in tries]
        events = told.pop(call["id"])
        assert {read for _, _, read in tries} <= {now["status"]}
        if now["status"] == "approved":
            _, won = assert_one_won(call, [racer for racer, _, _ in tries], answers, events)
            assert won == now
            assert won["decided_at"] < won["expires_at"]
        else:
            assert now == call | {"status": "expired", "version": 2}
            assert [event["type"] for event in events] == ["tool_call.expired"]
            assert [
                (answer.status_code, answer.json()["code"], answer.json()["current_status"]) for answer in answers
            ] == [(409, "invalid_transition", "expired")] * len(answers)
    assert told == {}
    stack.wait_until_relayed()
    assert stack.ledger.violations() == []
    ends = Counter(now["status"] for now in final)
    assert set(ends) == {"approved", "expired"}
    figures = {"calls": len(calls), "approvals": sum(map(len, tried)), **ends}
    record_property("around the deadline", figures)
    print(f"around the deadline: {figures}")  # noqa: T201 - shown with -s
