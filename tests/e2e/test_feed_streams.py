"""The stream across sessions: complete while relays die, and nothing in it that its reader may not see."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from uuid import uuid4

from stack import Stack, wait_until
from watching import Watching

FEED = "/events/stream"
SESSIONS = 6
KILLS = 4
WATCHERS = 4


def test_every_event_comes_once_while_the_relay_is_killed_again_and_again(
    stack: Stack, key: str, open_session: Callable[..., str], dice: random.Random
) -> None:
    with ExitStack() as ending:
        watchers = [ending.enter_context(Watching(stack, key, FEED, web=n % 2)) for n in range(WATCHERS)]
        sessions = [open_session() for _ in range(SESSIONS)]
        stop = []

        def write(session: str) -> int:
            said = 0
            with stack.client(key, web=len(session) % 2) as client:
                while not stop:
                    assert client.post(f"/sessions/{session}/messages", json={"content": "x"}).status_code == 201
                    said += 1
                    time.sleep(0.01)
            return said

        with ThreadPoolExecutor(SESSIONS) as writers:
            writing = [writers.submit(write, session) for session in sessions]
            for _ in range(KILLS):
                time.sleep(dice.uniform(0.1, 0.4))
                stack.worker.kill()
                dice.choice(watchers).cut()
                stack.worker.start()
            stop.append(True)
            said = sum(future.result() for future in writing)
        stack.heal()
        stack.wait_until_relayed()
        expected = said + 2 * SESSIONS  # created, activated
        for watcher in watchers:
            wait_until(lambda watcher=watcher: len(watcher.told) >= expected, "all was told")

    seen = [[(told.event["session_id"], told.event["seq"]) for told in watcher.told] for watcher in watchers]
    assert [len(events) for events in seen] == [expected] * WATCHERS
    assert all(events == seen[0] for events in seen)
    for session in sessions:
        seqs = [seq for session_id, seq in seen[0] if session_id == session]
        assert seqs == list(range(1, len(seqs) + 1))
    assert stack.ledger.violations() == []


def test_nobody_is_told_what_is_not_theirs(stack: Stack, key: str, tenant: str) -> None:
    stranger = stack.key(f"another-{uuid4().hex}")
    with stack.client(key) as admin, stack.client(stranger) as elsewhere:
        users = {
            name: admin.post("/api-keys", json={"name": name, "user_id": name}).json()["secret"]
            for name in ("ada", "bob")
        }
        secrets = {"service": key, "stranger": stranger, **users}
        with ExitStack() as ending:
            watching = {
                name: ending.enter_context(Watching(stack, secret, FEED, web=1)) for name, secret in secrets.items()
            }
            opened = {
                name: admin.post("/sessions", json={"agent_id": "a", "user_id": name}).json()["id"] for name in users
            }
            opened["stranger"] = elsewhere.post("/sessions", json={"agent_id": "a", "user_id": "ada"}).json()["id"]
            wait_until(lambda: len(watching["service"].told) == 2, "the service was told")
            for name, session in opened.items():
                wait_until(lambda name=name: watching[name].told, f"{name} was told")
                assert {told.event["session_id"] for told in watching[name].told} == {session}
        last = {name: watcher.told[-1].id for name, watcher in watching.items()}
        refused = {}
        for name, secret in secrets.items():
            with stack.client(secret) as client:
                refused[name] = [
                    client.get(FEED, headers={"Last-Event-ID": id_})
                    for id_ in [*(last[other] for other in last if other != name), "x", "1", last[name] + "x"]
                ]
                by_cursor = client.get(FEED, params={"cursor": last["bob" if name != "bob" else "ada"]})
                refused[name].append(by_cursor)

    assert {told.event["session_id"] for told in watching["service"].told} == {opened["ada"], opened["bob"]}
    assert {answer.status_code for answers in refused.values() for answer in answers} == {400}
    assert {answer.json()["code"] for answers in refused.values() for answer in answers} == {"invalid_cursor"}
