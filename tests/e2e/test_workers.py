"""The worker of the events: killed, paused, stopped, and two at once."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import partial
from uuid import UUID

from clients import Clients
from stack import Stack, wait_until

from service.domain.work import Queue

SIGNS_OF_LIFE = "SELECT count(*) FROM worker_heartbeats WHERE worker_id = $1"


def test_a_killed_worker_leaves_no_event_unrelayed(
    stack: Stack, tenant: str, key: str, open_session: Callable[..., str], dice: random.Random
) -> None:
    with Clients(stack, key, [open_session() for _ in range(4)]) as clients:
        for _ in range(5):
            clients.wait_for_more(20)
            clients.hurry(dice)
            stack.worker.kill()
            clients.relax()
            clients.wait_for_more(20)
            stack.worker.start()

    stack.wait_until_relayed()
    assert clients.history() == stack.ledger.messages(tenant)
    assert set(clients.counted()) == {201}
    assert stack.ledger.violations() == []


def test_a_stopped_worker_leaves_no_sign_of_life(stack: Stack, key: str, open_session: Callable[..., str]) -> None:
    started = re.findall(r'"worker_id":"([^"]+)".*"event":"worker.started"', stack.worker.log.read_text())
    signs = partial(
        stack.ledger.value, "SELECT count(*) FROM worker_heartbeats WHERE worker_id = $1", UUID(started[-1])
    )
    wait_until(lambda: signs() == 1, "the worker was heard")
    with Clients(stack, key, [open_session()]) as clients:
        clients.wait_for_more(30)
        ended = stack.worker.stop()

    assert ended == 0
    assert signs() == 0
    stack.worker.start()
    stack.wait_until_relayed()
    assert stack.ledger.violations() == []


def test_a_session_whose_time_is_over_ends_exactly_once(
    stack: Stack, tenant: str, key: str, open_session: Callable[..., str]
) -> None:
    sessions = [open_session(config={"timeout_minutes": 1}) for _ in range(20)]
    with stack.another_worker(Queue.EVENTS):
        stack.ledger.let_time_pass(sessions[1:], minutes=2)
        wait_until(lambda: expired(stack, tenant) == 19, "the expiry is recorded")
        # This one is swept later than all, so whatever a sweep could have doubled is doubled by then.
        stack.ledger.let_time_pass(sessions[:1], minutes=2)
        wait_until(lambda: expired(stack, tenant) >= 20, "the last expiry is recorded")

    assert expired(stack, tenant) == 20
    told = stack.ledger.rows(
        "SELECT session_id, actor_kind FROM events WHERE type = 'session.expired' AND tenant_id = $1", tenant
    )
    assert sorted((str(id_), kind) for id_, kind in told) == sorted((id_, "system") for id_ in sessions)
    assert stack.ledger.violations() == []


def test_readers_see_the_end_before_it_is_recorded_and_the_same_after(
    stack: Stack, key: str, open_session: Callable[..., str]
) -> None:
    session = open_session(config={"timeout_minutes": 1})
    seen = ("status", "end_reason", "ended_at", "expires_at", "message_count")
    with stack.client(key) as client:
        stack.worker.kill()
        stack.ledger.let_time_pass([session], minutes=2)
        before = client.get(f"/sessions/{session}").json()
        listed = client.get("/sessions", params={"status": "ended"}).json()["data"]
        refused = client.post(f"/sessions/{session}/messages", json={"content": "too late"})
        stack.worker.start()
        events = f"/sessions/{session}/events?type=session.expired"
        wait_until(lambda: client.get(events).json()["data"], "the expiry is recorded")
        after = client.get(f"/sessions/{session}").json()

    assert {name: before[name] for name in seen} == {name: after[name] for name in seen}
    assert (before["status"], before["end_reason"]) == ("ended", "expired")
    assert [one["id"] for one in listed] == [session]
    assert (refused.status_code, refused.json()["code"]) == (410, "session_expired")


def expired(stack: Stack, tenant: str) -> int:
    found = stack.ledger.value("SELECT count(*) FROM events WHERE type = 'session.expired' AND tenant_id = $1", tenant)
    return int(found)
