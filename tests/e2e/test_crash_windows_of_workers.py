"""A worker ends in each window of its work: whatever it was about is taken up by the next one, and done once."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from crash_windows import REPEATS, arm, end, ended_in_its_window, post
from receiver import Receiver, receiving
from stack import Part, Stack, wait_until

from service.domain.work import Queue
from service.store import deliveries, inspections
from workers import main
from workers.jobs import deliver_webhooks, inspect_attachments

COMMITS = ("before_commit", "after_commit", "after_push")
CLAIMED_AND_RECORDED = ("before_commit:1", "after_commit:1", "before_commit:2", "after_commit:2", "after_push")
"""The first transaction of a worker that finds something to do claims it, the second one records what came of it."""

ENDS_AT_ONCE = 4
"""Fewer than an endpoint's places."""

PROMISED_SECONDS = 15.0
"""Within this time after any crash work resumes: the lease of whoever died runs out, and a sweep finds what it left."""


def test_a_lease_and_a_sweep_take_no_longer_than_is_promised() -> None:
    assert main.SWEEP_SECONDS <= PROMISED_SECONDS
    assert deliveries.LEASE_SECONDS + deliver_webhooks.SWEEP_SECONDS <= PROMISED_SECONDS
    assert inspections.LEASE_SECONDS + inspect_attachments.SWEEP_SECONDS <= PROMISED_SECONDS


def said(stack: Stack, key: str, session: str, content: str) -> None:
    answer = post(stack.webs[0], key, f"/sessions/{session}/messages", json={"content": content})
    assert answer is not None
    assert answer.status_code == 201


def comes_to_its_end(stack: Stack, worker: Part, is_done: Callable[[], object], what: str) -> None:
    """Start the worker as it is in earnest, once the leases of those that ended have run out."""
    stack.ledger.let_leases_run_out()
    worker.start()
    wait_until(is_done, what)
    stack.wait_until_relayed()
    assert stack.ledger.violations() == []


def windows_of(windows: tuple[str, ...], dice: random.Random) -> list[tuple[str, ...]]:
    """Every window as often as is asked for, in any order, a few ends at a time."""
    every = [window for window in windows for _ in range(REPEATS)]
    dice.shuffle(every)
    return [tuple(every[first : first + ENDS_AT_ONCE]) for first in range(0, len(every), ENDS_AT_ONCE)]


def arrived(receiver: Receiver) -> dict[str, set[bytes]]:
    """What came, by `webhook-id`: more than one body would be two events under one id."""
    bodies: dict[str, set[bytes]] = {}
    for call in list(receiver.calls):
        bodies.setdefault(call.id, set()).add(call.body)
    return bodies


@pytest.mark.parametrize("window", COMMITS)
def test_an_event_reaches_its_webhook_whenever_the_relay_ended(
    stack: Stack, key: str, open_session: Callable[..., str], window: str
) -> None:
    worker = stack.worker_of(Queue.EVENTS)
    session = open_session()
    stack.wait_until_relayed()
    with receiving() as receiver, stack.client(key) as client:
        client.post("/webhooks", json={"url": receiver.url})
        for number in range(REPEATS):
            end(worker)
            said(stack, key, session, f"{window} {number}")
            arm(worker, window)
            assert ended_in_its_window(worker)
        told = {row["id"] for row in stack.ledger.rows(TOLD, session)}
        comes_to_its_end(stack, worker, lambda: arrived(receiver).keys() >= told, "every event arrives")

    assert len(told) == REPEATS
    assert arrived(receiver).keys() == told
    assert {len(versions) for versions in arrived(receiver).values()} == {1}
    assert stack.ledger.value(MADE, sorted(told)) == REPEATS


TOLD = "SELECT id::text FROM events WHERE session_id = $1::text::uuid AND type = 'message.created'"
MADE = "SELECT count(*) FROM webhook_deliveries WHERE event_id::text = ANY($1::text[])"
UNFINISHED = """
    SELECT count(*) FROM webhook_deliveries d JOIN sessions s ON s.id = d.session_id
    WHERE s.tenant_id = $1 AND d.status <> 'succeeded'
"""


def test_a_webhook_arrives_whenever_its_worker_ended(
    stack: Stack, key: str, tenant: str, open_session: Callable[..., str], dice: random.Random
) -> None:
    worker = stack.worker_of(Queue.WEBHOOKS)
    every = windows_of(CLAIMED_AND_RECORDED, dice)
    sessions = [[open_session() for _ in ends] for ends in every]
    stack.wait_until_relayed()
    with receiving() as receiver, stack.client(key) as client:
        client.post("/webhooks", json={"url": receiver.url})
        for ends, spoken_in in zip(every, sessions, strict=True):
            for window, session in zip(ends, spoken_in, strict=True):
                end(worker)
                said(stack, key, session, window)
                stack.wait_until_relayed()
                arm(worker, window)
                assert ended_in_its_window(worker)
            told = {row["id"] for session in spoken_in for row in stack.ledger.rows(TOLD, session)}
            comes_to_its_end(
                stack,
                worker,
                lambda told=told: arrived(receiver).keys() >= told and not stack.ledger.value(UNFINISHED, tenant),
                "every delivery is recorded",
            )

            assert len(told) == len(ends)
            assert {len(versions) for versions in arrived(receiver).values()} == {1}


KEPT_FROM_OTHERS = "UPDATE attachments SET due_at = now() + interval '1 day' WHERE status = 'processing'"
READY = "SELECT count(*) FROM attachments WHERE tenant_id = $1 AND status = 'ready'"
TOLD_READY = "SELECT count(*) FROM events WHERE tenant_id = $1 AND type = 'attachment.processed'"


def test_a_file_is_ready_whenever_its_worker_ended(
    stack: Stack, key: str, tenant: str, open_session: Callable[..., str], dice: random.Random
) -> None:
    worker = stack.worker_of(Queue.ATTACHMENTS)
    session, files = open_session(), 0
    for ends in windows_of((*CLAIMED_AND_RECORDED, "mid_upload"), dice):
        for window in ends:
            end(worker)
            # A text that differs from the bytes that were sent, so that there is something to store.
            file = {"file": (f"{window.partition(':')[0]}.txt", f"{window}, the {files}th, däs".encode("latin-1"))}
            answer = post(stack.webs[0], key, f"/sessions/{session}/attachments", files=file)
            assert answer is not None
            assert answer.status_code == 201
            files += 1
            arm(worker, window)
            assert ended_in_its_window(worker)
            # A machine may be so slow that the lease runs out before the last of these ends: the file would be
            # claimed, and end a worker, once more than it may.
            stack.ledger.rows(KEPT_FROM_OTHERS)
        comes_to_its_end(
            stack, worker, lambda files=files: stack.ledger.value(READY, tenant) == files, "every file is ready"
        )

    assert stack.ledger.value(TOLD_READY, tenant) == files
    stack.ledger.rows("UPDATE loose_blobs SET due_at = now()")
    wait_until(lambda: stack.ledger.value("SELECT count(*) FROM loose_blobs") == 0, "what nobody adopted is deleted")
    kept = {row["key"] for row in stack.ledger.rows("SELECT key FROM blobs")}
    stored = stack.folder / "files"
    assert {str(path.relative_to(stored)) for path in stored.rglob("*") if path.is_file()} == kept
