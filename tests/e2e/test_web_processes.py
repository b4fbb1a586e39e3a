"""Two web processes on one database: killed, stopped, and asked the same thing at once."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx2
from clients import Clients
from rounds import rounds
from stack import ANSWER_SECONDS_MAX, Stack, Web, wait_until

KILLS = rounds(6, at_least=3)
"""A kill that loses something in half of its moments is missed by three of them once in eight runs, by six in 64."""

STILL_SENDING_SECONDS = 1.0
"""How long clients go on sending to a server that is stopping: long enough to be cut by one that does not wait."""


def test_killed_web_processes_lose_and_double_nothing_acknowledged(
    stack: Stack, tenant: str, key: str, open_session: Callable[..., str], dice: random.Random
) -> None:
    with Clients(stack, key, [open_session(), open_session()]) as clients:
        for _ in range(KILLS):
            clients.wait_for_more(40)
            killed = dice.choice(stack.webs)
            clients.hurry(dice)
            killed.kill()
            clients.relax()
            killed.start()
            wait_until(lambda killed=killed: killed.readiness() == "ready", f"{killed.name} is ready again")

    assert clients.history() == stack.ledger.messages(tenant)
    assert set(clients.counted()) <= {201, "connection broke"}
    stack.wait_until_relayed()
    assert stack.ledger.violations() == []


def test_every_key_of_a_burst_cut_by_a_kill_opens_exactly_one_session(
    stack: Stack, tenant: str, key: str, dice: random.Random
) -> None:
    bodies = {uuid4().hex: {"agent_id": "e2e", "title": f"session {number}"} for number in range(120)}
    keys = list(bodies)

    def post(client: httpx2.Client, idempotency_key: str) -> httpx2.Response:
        return client.post("/sessions", json=bodies[idempotency_key], headers={"Idempotency-Key": idempotency_key})

    def try_to_post(client: httpx2.Client, idempotency_key: str) -> httpx2.Response | None:
        with contextlib.suppress(httpx2.TransportError):
            return post(client, idempotency_key)
        return None

    first: dict[str, httpx2.Response | None] = {}
    for burst in (keys[:40], keys[40:80], keys[80:]):
        with stack.client(key) as client, ThreadPoolExecutor(8) as threads:
            answers = [threads.submit(try_to_post, client, one) for one in burst]
            count = dice.randrange(1, 30)
            wait_until(
                lambda answers=answers, count=count: sum(one.done() for one in answers) >= count, "some are done"
            )
            stack.webs[0].kill()
            first |= {one: answer.result() for one, answer in zip(burst, answers, strict=True)}
        stack.webs[0].start()
        wait_until(lambda: stack.webs[0].readiness() == "ready", "it is ready again")
    with stack.client(key) as client, stack.client(key, web=1) as other:
        again = {one: post(dice.choice([client, other]), one) for one in keys}

    assert Counter(answer.status_code for answer in again.values()) == {201: len(keys)}
    for one, before in first.items():
        if before is not None:
            assert before.content == again[one].content
            assert again[one].headers["idempotent-replayed"] == "true"
    opened = stack.ledger.rows("SELECT id, title FROM sessions WHERE tenant_id = $1", tenant)
    assert {(str(id_), title) for id_, title in opened} == {
        (again[one].json()["id"], bodies[one]["title"]) for one in keys
    }
    assert len(opened) == len(keys)
    stack.wait_until_relayed()
    assert stack.ledger.violations() == []


class SlowRequest:
    """An append whose body is still on its way: the server has taken the head and the first byte, and waits."""

    def __init__(self, web: Web, key: str, session: str, content: str) -> None:
        self.body = b'{"content": "%s"}' % content.encode()
        self.connection = socket.create_connection(("127.0.0.1", web.port), ANSWER_SECONDS_MAX)
        self.connection.sendall(
            f"POST /api/v1/sessions/{session}/messages HTTP/1.1\r\nHost: holdfast\r\n"
            f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(self.body)}\r\nExpect: 100-continue\r\n\r\n".encode()
        )

    def wait_until_taken(self) -> None:
        answer = self.connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 100"), answer
        self.connection.sendall(self.body[:1])

    def finish(self) -> str:
        """Send the rest of the body, and read the answer to its last byte."""
        self.connection.sendall(self.body[1:])
        with self.connection, self.connection.makefile("rb") as answer:
            return answer.read().decode()


def test_a_stopping_web_process_answers_all_that_it_has_taken(
    stack: Stack, tenant: str, key: str, open_session: Callable[..., str]
) -> None:
    session = open_session()
    stopping = stack.webs[0]
    requests = [SlowRequest(stopping, key, session, f"message {number}") for number in range(20)]
    for request in requests:
        request.wait_until_taken()

    stopping.send(signal.SIGTERM)
    wait_until(stopping.refuses, "it takes no new connection")
    time.sleep(STILL_SENDING_SECONDS)
    answers = [request.finish() for request in requests]
    stopping.wait()

    assert [answer.split("\r\n", 1)[0] for answer in answers] == ["HTTP/1.1 201 Created"] * 20
    told = [re.search(r'"seq":(\d+)', answer) for answer in answers]
    assert sorted(int(seq[1]) for seq in told if seq) == list(range(1, 21))
    assert len(stack.ledger.messages(tenant)) == 20
    stack.wait_until_relayed()
    assert stack.ledger.violations() == []


def test_a_key_works_at_once_and_a_revoked_one_stops_everywhere(stack: Stack, tenant: str) -> None:
    created = stack.holdfast("keys", "create", "--tenant", tenant, "--name", "by hand", "--expires-in", "1d")
    secret = created.stdout.strip()
    with stack.client(secret, web=0) as one, stack.client(secret, web=1) as other:
        before = [client.get("/sessions").status_code for client in (one, other)]
        listed = stack.holdfast("keys", "list")
        key_id = re.search(rf"^(\S+) +{tenant} ", listed.stdout, re.MULTILINE)
        assert key_id, listed
        revoked = stack.holdfast("keys", "revoke", key_id[1])
        wait_until(
            lambda: [client.get("/sessions").status_code for client in (one, other)] == [401, 401],
            "both processes refuse the key",
        )

    assert re.fullmatch(r"hf_\S{16,}", secret), created
    assert (created.returncode, listed.returncode, revoked.returncode) == (0, 0, 0)
    assert before == [200, 200]
    assert secret not in listed.stdout + listed.stderr + created.stderr
    assert revoked.stdout == f"Key {key_id[1]} is revoked.\n"
    assert re.search(rf"^{key_id[1]} .* revoked ", stack.holdfast("keys", "list").stdout, re.MULTILINE)
    unknown = stack.holdfast("keys", "revoke", str(uuid4()))
    assert unknown.returncode == 1
    assert re.fullmatch(r"Error: .+\.\n", unknown.stderr)


def test_the_doctor_finds_nothing_bad_in_a_working_stack(stack: Stack) -> None:
    checkup = stack.holdfast("doctor")

    assert checkup.returncode == 0, checkup
    for good in ("configuration", "PostgreSQL 18", "schema: current", "outbox: ", "worker events: heard ", "Redis"):
        assert re.search(rf"^ok +{good}", checkup.stdout, re.MULTILINE), checkup.stdout
    assert "FAIL" not in checkup.stdout
