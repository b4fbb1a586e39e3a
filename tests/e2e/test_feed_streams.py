"""The stream across sessions: complete while relays die, and nothing in it that its reader may not see."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from threading import Event
from uuid import UUID, uuid4

from conversations import CAUSE, service_of
from patience import patience
from stack import DEADLINE_SECONDS, Stack, wait_until
from watching import Watching

from service.commands.messages import append_messages
from service.domain.message import MessageDraft
from service.store.engine import Database

FEED = "/events/stream"
SESSIONS = 6
KILLS = 4
WATCHERS = 4
LATE_WRITERS = 4
LATE_WRITES = 20
"""Of each, one after the other."""

HELD_SECONDS_MAX = 0.3
"""Many batches of the relay long."""

UNDONE_SHARE = 0.2
CUT_EVERY = 25


class Undo(Exception):
    """Rolls a writer's transaction back."""


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


async def write_late(
    url: str, tenant: str, sessions: list[str], dice: random.Random, has_written: Event, may_commit: Event
) -> int:
    """Write in transactions that stay open for some time, or are undone; how much is committed in the end.

    The first of all commits when it may.
    """
    database = Database(url, connections_max=LATE_WRITERS)
    with patience():
        await database.open()

    async def write() -> int:
        said = 0
        for _ in range(LATE_WRITES):
            with suppress(Undo):
                async with database.begin() as tx:
                    messages = [MessageDraft(content="x")] * dice.randint(1, 3)
                    await append_messages(tx, service_of(tenant), UUID(dice.choice(sessions)), messages, CAUSE)
                    await asyncio.sleep(dice.uniform(0, HELD_SECONDS_MAX))
                    if dice.random() < UNDONE_SHARE:
                        raise Undo
                said += len(messages)
        return said

    async with database.begin() as tx:
        await append_messages(tx, service_of(tenant), UUID(sessions[0]), [MessageDraft(content="x")], CAUSE)
        has_written.set()
        assert await asyncio.to_thread(may_commit.wait, DEADLINE_SECONDS)
    written = await asyncio.gather(*(write() for _ in range(LATE_WRITERS)))
    await database.close()
    return 1 + sum(written)


def test_what_is_committed_late_is_skipped_by_no_stream(
    stack: Stack, key: str, tenant: str, open_session: Callable[..., str], dice: random.Random
) -> None:
    with ExitStack() as ending:
        watchers = [ending.enter_context(Watching(stack, key, FEED, web=n % 2)) for n in range(WATCHERS)]
        late, prompt = [open_session() for _ in range(SESSIONS)], open_session()
        url = stack.servers.endpoints.database_url or ""
        has_written, may_commit = Event(), Event()
        with ThreadPoolExecutor(1) as writers, stack.client(key) as client:
            writing = writers.submit(lambda: asyncio.run(write_late(url, tenant, late, dice, has_written, may_commit)))
            assert has_written.wait(DEADLINE_SECONDS)
            time.sleep(0.01)  # ids tell milliseconds
            assert client.post(f"/sessions/{prompt}/messages", json={"content": "x"}).status_code == 201
            stack.wait_until_relayed()  # so this one has its place before the first late one is committed
            may_commit.set()
            said = 1
            while not writing.done():
                assert client.post(f"/sessions/{prompt}/messages", json={"content": "x"}).status_code == 201
                said += 1
                dice.choice(watchers).cut() if said % CUT_EVERY == 0 else time.sleep(0.01)
            expected = writing.result() + said + 2 * (SESSIONS + 1)  # created, activated
        stack.wait_until_relayed()
        for watcher in watchers:
            wait_until(lambda watcher=watcher: len(watcher.told) >= expected, "all was told")

    seen = [[(told.event["session_id"], told.event["seq"]) for told in watcher.told] for watcher in watchers]
    assert [len(events) for events in seen] == [expected] * WATCHERS
    assert all(events == seen[0] for events in seen)
    for session in [*late, prompt]:
        seqs = [seq for session_id, seq in seen[0] if session_id == session]
        assert seqs == list(range(1, len(seqs) + 1))
    made = [told.event["id"] for told in watchers[0].told]
    assert made != sorted(made)  # ids tell when an event was written: some did come late


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
