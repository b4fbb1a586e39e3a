"""Valkey keeps nothing on disk: it comes back empty, and what was acknowledged comes to its end all the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from receiver import receiving
from redis import Redis
from stack import Stack, wait_until

from service.domain.work import Queue


def jobs_of(stack: Stack, queue: Queue) -> int:
    with Redis.from_url(stack.environment["REDIS_URL"]) as redis:
        return int(redis.zcard(queue.key))


def lose_every_job(stack: Stack, *queues: Queue) -> None:
    """Kill Valkey while a job waits in each of these queues, and start it again; no job comes back."""
    for queue in queues:
        wait_until(lambda queue=queue: jobs_of(stack, queue) > 0, f"a job waits in {queue}")
    os.kill(stack.servers.redis_pid, signal.SIGKILL)
    stack.servers.start_redis()
    assert [jobs_of(stack, queue) for queue in queues] == [0] * len(queues)


def test_a_file_whose_job_was_lost_with_valkey_becomes_ready(
    stack: Stack, key: str, open_session: Callable[..., str]
) -> None:
    session, inspector = open_session(), stack.worker_of(Queue.ATTACHMENTS)
    assert inspector.stop() == 0
    with stack.client(key) as client:
        sent = client.post(f"/sessions/{session}/attachments", files={"file": ("notes.txt", b"kept all the same")})
        file = f"/sessions/{session}/attachments/{sent.json()['id']}"
        stack.wait_until_relayed()
        lose_every_job(stack, Queue.ATTACHMENTS)
        inspector.start()
        wait_until(lambda: client.get(f"{file}/metadata").json()["status"] == "ready", "the file is ready")
        text = client.get(f"{file}/text").text

    assert (sent.status_code, text) == (201, "kept all the same")
    stack.wait_until_relayed()
    assert stack.ledger.violations() == []


def test_events_and_webhooks_whose_jobs_were_lost_with_valkey_arrive(
    stack: Stack, key: str, open_session: Callable[..., str]
) -> None:
    relay, sender = stack.worker_of(Queue.EVENTS), stack.worker_of(Queue.WEBHOOKS)
    with receiving() as receiver, stack.client(key) as client:
        assert client.post("/webhooks", json={"url": receiver.url}).status_code == 201
        assert sender.stop() == 0
        session = open_session()
        stack.wait_until_relayed()
        wait_until(lambda: jobs_of(stack, Queue.WEBHOOKS) > 0, "the relay has rung for the deliveries")
        assert relay.stop() == 0
        assert client.post(f"/sessions/{session}/messages", json={"content": "x"}).status_code == 201
        lose_every_job(stack, Queue.EVENTS, Queue.WEBHOOKS)
        relay.start()
        sender.start()
        wait_until(lambda: len(receiver.calls) >= 3, "three events arrive")

    assert [call.event["seq"] for call in receiver.calls] == [1, 2, 3]
    assert stack.ledger.violations() == []
