"""Who waits for a decision hears of it, through whichever process it was made, and is in nobody's way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest
from approvals import Waiter, ask, keys_of_people, path_of
from stack import Stack, wait_until

WAIT_SECONDS = 60
"""Twice as long as `Waiter` waits for an answer (`ANSWER_SECONDS_MAX`): one that comes was woken."""
WAITERS = 300
CALLS = 100
OTHERS = 50
"""Requests beside those that wait: more than a process has connections to PostgreSQL."""


@pytest.mark.parametrize(
    ("valkey", "action", "status"), [("there", "approve", "approved"), ("killed", "cancel", "cancelled")]
)
def test_a_decision_wakes_who_waits_at_the_other_process(
    stack: Stack, key: str, open_session: Callable[..., str], valkey: str, action: str, status: str
) -> None:
    session = open_session()
    with stack.client(key, web=1) as other:
        (call,) = ask(other, session)
        if valkey == "killed":
            os.kill(stack.servers.redis_pid, signal.SIGKILL)
        try:
            if valkey == "killed":
                wait_until(lambda: {web.readiness() for web in stack.webs} == {"degraded"}, "both know that it is gone")
            waiter = Waiter(stack.webs[0], key, call, WAIT_SECONDS)
            assert stack.webs[0].get("/health/live").status_code == 200
            was_answered = waiter.is_answered
            decided = other.post(path_of(call), json={"action": action})
            woken = waiter.answer()
        finally:
            if valkey == "killed":
                stack.servers.start_redis()

    assert not was_answered
    assert (decided.status_code, decided.json()["status"]) == (200, status)
    assert woken == (200, decided.json())


def test_three_hundred_who_wait_at_one_process_are_in_nobodys_way(
    stack: Stack, key: str, open_session: Callable[..., str]
) -> None:
    """They are many times as many as the process has connections to PostgreSQL."""
    session = open_session()
    ada = keys_of_people(stack, key)["ada"]
    with stack.client(key, web=0) as agent, stack.client(ada, web=1) as person:
        calls = ask(agent, session, CALLS)
        waiters = [Waiter(stack.webs[0], key, calls[n % CALLS], WAIT_SECONDS) for n in range(WAITERS)]
        said = [agent.post(f"/sessions/{session}/messages", json={"content": f"{n}"}) for n in range(OTHERS)]
        listed = agent.get("/tool-calls", params={"status": "pending"}).json()
        answered_early = sum(waiter.is_answered for waiter in waiters)
        decided = [person.post(path_of(call), json={"action": "approve"}) for call in calls]
        woken = [waiter.answer() for waiter in waiters]

    assert [answer.status_code for answer in said] == [201] * OTHERS
    assert listed["count"] == CALLS
    assert answered_early == 0
    assert [answer.status_code for answer in decided] == [200] * CALLS
    assert woken == [(200, decided[n % CALLS].json()) for n in range(WAITERS)]
    assert stack.ledger.violations() == []
