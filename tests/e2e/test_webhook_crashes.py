"""Webhooks while workers are killed: each event arrives, under one id, in the order of its session."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable

from receiver import receiving
from rounds import rounds
from stack import Stack, wait_until

from service.domain.work import Queue

SESSIONS = 10
BATCH = 5
KILLS = rounds(4, at_least=2)
EVENTS = BATCH * rounds(120, at_least=60)
"""The whole of it, by hand: TEST_ROUNDS=8."""
SECONDS_BETWEEN_KILLS = (0.3, 0.9)
UNFINISHED = "SELECT count(*) FROM webhook_deliveries WHERE status <> 'succeeded' AND tenant_id = $1"


def test_no_kill_of_workers_loses_an_event_or_its_order(
    stack: Stack, tenant: str, key: str, open_session: Callable[..., str], dice: random.Random
):
    with stack.another_worker(Queue.WEBHOOKS) as another, receiving() as receiver, stack.client(key) as client:
        workers = [stack.worker_of(Queue.EVENTS), stack.worker_of(Queue.WEBHOOKS), another]
        made = client.post("/webhooks", json={"url": receiver.url}).json()
        sessions = [open_session() for _ in range(SESSIONS)]
        pause = KILLS * sum(SECONDS_BETWEEN_KILLS) / (EVENTS / BATCH)

        def write() -> None:
            for number in range(EVENTS // BATCH):
                batch = {"messages": [{"content": str(number)}] * BATCH}
                path = f"/sessions/{sessions[number % SESSIONS]}/messages/batch"
                assert client.post(path, json=batch).status_code == 201
                time.sleep(pause)

        writing = threading.Thread(target=write)
        writing.start()
        for _ in range(KILLS):
            time.sleep(dice.uniform(*SECONDS_BETWEEN_KILLS))
            worker = dice.choice(workers)
            worker.kill()
            worker.start()
        writing.join()
        rows = stack.ledger.rows("SELECT id::text, session_id::text, seq FROM events WHERE tenant_id = $1", tenant)
        told = {row["id"]: (row["session_id"], row["seq"]) for row in rows}
        wait_until(lambda: {call.id for call in receiver.calls} >= told.keys(), "every event arrives")
        wait_until(lambda: stack.ledger.value(UNFINISHED, tenant) == 0, "every delivery is recorded")

    assert len(told) == EVENTS + 2 * SESSIONS
    assert {call.id for call in receiver.calls} == told.keys()
    bodies: dict[str, set[bytes]] = defaultdict(set)
    arrived: dict[str, list[int]] = defaultdict(list)
    for call in receiver.calls:
        event = call.verified_by(made["secret"])
        assert (event["id"], (event["session_id"], event["seq"])) == (call.id, told[call.id])
        if call.id not in bodies:
            arrived[event["session_id"]].append(event["seq"])
        bodies[call.id].add(call.body)
    assert {len(versions) for versions in bodies.values()} == {1}
    assert all(seqs == list(range(1, len(seqs) + 1)) for seqs in arrived.values())
    print(f"{KILLS} kills, {len(told)} events, {len(receiver.calls) - len(told)} sent again")  # noqa: T201 - a figure


def test_without_redis_and_with_a_restart_of_every_worker_webhooks_still_arrive(
    stack: Stack, key: str, open_session: Callable[..., str]
):
    with receiving() as receiver, stack.client(key) as client:
        client.post("/webhooks", json={"url": receiver.url})
        os.kill(stack.servers.redis_pid, signal.SIGKILL)
        try:
            session = open_session()
            for worker in stack.workers:
                assert worker.stop() == 0
                worker.start()
            client.post(f"/sessions/{session}/messages", json={"content": "x"})
            wait_until(lambda: len(receiver.calls) >= 3, "three events arrive")
        finally:
            stack.servers.start_redis()

    assert [call.event["seq"] for call in receiver.calls] == [1, 2, 3]
