"""Files while the worker that looks into them is killed: at its claim, in the inspection, before it records."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from eventually import DEADLINE_SECONDS
from processes import alive
from stack import Part, Stack, wait_until

from service.domain.work import Queue
from workers.scratch import SCRATCH_PREFIX

BLOCKED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1
"""


@pytest.fixture
def inspector(stack: Stack) -> Part:
    return stack.worker_of(Queue.ATTACHMENTS)


@pytest.fixture
def upload(stack: Stack, key: str, open_session: Callable[..., str]) -> Callable[..., str]:
    """Adds a file to a session of its own and gives its address."""

    def add(content: bytes, name: str = "notes.txt") -> str:
        session = open_session()
        with stack.client(key) as client:
            answer = client.post(f"/sessions/{session}/attachments", files={"file": (name, content)})
        assert answer.status_code == 201, answer.text
        return f"/sessions/{session}/attachments/{answer.json()['id']}"

    return add


@pytest.fixture
def look(stack: Stack, key: str) -> Callable[[str], dict[str, Any]]:
    def read(file: str) -> dict[str, Any]:
        with stack.client(key) as client:
            return dict(client.get(f"{file}/metadata").json())

    return read


@contextmanager
def holding(stack: Stack, statement: str, *arguments: Any) -> Iterator[None]:
    """Hold what `statement` locks, in a transaction that another connection has to wait for."""
    runner = stack.ledger.runner

    async def begin() -> asyncpg.Connection[Any]:
        connection = await asyncpg.connect(stack.environment["DATABASE_URL"])
        await connection.execute("BEGIN")
        await connection.execute(statement, *arguments)
        return connection

    connection = runner.run(begin())
    try:
        yield
    finally:
        runner.run(connection.execute("ROLLBACK"))
        runner.run(connection.close())


def is_blocked(stack: Stack, statement: str) -> bool:
    return bool(stack.ledger.value(BLOCKED, f"%{statement}%"))


def comes_to_its_end(stack: Stack, file: str, look: Callable[[str], dict[str, Any]], status: str) -> dict[str, Any]:
    wait_until(lambda: look(file)["status"] == status, f"the file is {status}: {look(file)}")
    stack.wait_until_relayed()
    assert stack.ledger.violations() == []
    return look(file)


def text_of(stack: Stack, key: str, file: str) -> str:
    with stack.client(key) as client:
        return client.get(f"{file}/text").text


def test_a_file_whose_worker_died_over_its_claim_is_ready_soon(
    stack: Stack, inspector: Part, key: str, upload: Callable[..., str], look: Callable[[str], dict[str, Any]]
) -> None:
    inspector.kill()
    file = upload(b"claimed and left")
    with holding(stack, "LOCK TABLE blobs IN ACCESS EXCLUSIVE MODE"):
        inspector.start()
        wait_until(lambda: is_blocked(stack, "FROM blobs"), "the worker has claimed the file and asks for its bytes")
        inspector.kill()
    assert look(file)["status"] == "processing"
    inspector.start()  # and waits until the lease of the killed one has run out

    comes_to_its_end(stack, file, look, "ready")
    assert text_of(stack, key, file) == "claimed and left"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lists the children of a process at once")
def test_a_file_whose_worker_died_over_its_inspection_is_ready_soon(
    stack: Stack, inspector: Part, key: str, upload: Callable[..., str], look: Callable[[str], dict[str, Any]]
) -> None:
    inspector.kill()
    content = b"name,value\n" + b"".join(b"row %d,%d\n" % (number, number) for number in range(400_000))
    file = upload(content, "rows.csv")
    inspector.start()
    child = stopped_child(inspector)
    scratch = Path(os.readlink(f"/proc/{child}/cwd")).parent  # noqa: PTH115 - as below
    inspector.kill()
    os.kill(child, signal.SIGCONT)
    wait_until(lambda: not alive(child), "the child has ended with its worker")
    assert look(file)["status"] == "processing"
    assert (scratch / "file").read_bytes() == content
    stack.ledger.let_leases_run_out()
    inspector.start()

    assert comes_to_its_end(stack, file, look, "ready")["properties"]["rows"] == 400_001
    wait_until(lambda: not scratch.exists(), "the copy of the killed worker is gone")


def stopped_child(worker: Part) -> int:
    """The process that inspects a file for the worker, stopped before its end: to look takes less than to start it."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        for listed in Path(f"/proc/{worker.pid}/task").glob("*/children"):
            for child in map(int, listed.read_text().split()):
                if inspects_a_file(child):
                    os.kill(child, signal.SIGSTOP)
                    return child
    raise AssertionError("no child looked into the file")


def inspects_a_file(child: int) -> bool:
    """Whether it works in the folder of a file; at its start a worker has a child that only tries its locks."""
    try:
        return SCRATCH_PREFIX in os.readlink(f"/proc/{child}/cwd")  # noqa: PTH115 - it may name what is gone
    except OSError:
        return False


def test_a_file_whose_worker_died_before_it_recorded_is_ready_soon_and_nothing_is_left_over(
    stack: Stack, inspector: Part, key: str, upload: Callable[..., str], look: Callable[[str], dict[str, Any]]
) -> None:
    inspector.kill()
    file = upload("looked into, däs".encode())
    session = file.split("/")[2]
    with holding(stack, f"SELECT 1 FROM sessions WHERE id = '{session}' FOR UPDATE"):
        inspector.start()
        wait_until(lambda: is_blocked(stack, "sessions.user_id"), "the worker is about to record what it found")
        inspector.kill()
    announced = stack.ledger.value("SELECT count(*) FROM loose_blobs")
    stack.ledger.let_leases_run_out()
    inspector.start()

    comes_to_its_end(stack, file, look, "ready")
    assert text_of(stack, key, file) == "looked into, däs"
    assert announced >= 1
    stack.ledger.rows("UPDATE loose_blobs SET due_at = now()")
    wait_until(lambda: stack.ledger.value("SELECT count(*) FROM loose_blobs") == 0, "what nobody adopted is deleted")
    kept = {row["key"] for row in stack.ledger.rows("SELECT key FROM blobs")}
    files = stack.folder / "files"
    assert {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()} == kept


def test_a_file_that_kills_three_workers_fails_and_can_be_tried_again(
    stack: Stack, inspector: Part, key: str, upload: Callable[..., str], look: Callable[[str], dict[str, Any]]
) -> None:
    inspector.kill()
    file = upload(b"too much for them")
    for _ in range(3):
        with holding(stack, "LOCK TABLE blobs IN ACCESS EXCLUSIVE MODE"):
            inspector.start()
            wait_until(lambda: is_blocked(stack, "FROM blobs"), "the worker has claimed the file")
            inspector.kill()
        stack.ledger.let_leases_run_out()
    inspector.start()
    failed = comes_to_its_end(stack, file, look, "failed")
    with stack.client(key) as client:
        downloaded = client.get(file).content
        again = client.post(f"{file}/retry")

    assert "3 times" in failed["error"]
    assert downloaded == b"too much for them"
    assert (again.status_code, again.json()["status"], again.json()["error"]) == (200, "uploaded", None)
    comes_to_its_end(stack, file, look, "ready")


def test_a_file_is_found_though_redis_was_emptied_and_nobody_rang(
    stack: Stack, inspector: Part, key: str, upload: Callable[..., str], look: Callable[[str], dict[str, Any]]
) -> None:
    inspector.kill()
    stack.worker.kill()
    file = upload(b"nobody was told")
    inspector.start()
    wait_until(lambda: look(file)["status"] == "ready", "the sweep finds the file")
    stack.worker.start()

    comes_to_its_end(stack, file, look, "ready")


def test_a_worker_that_is_stopped_gives_its_file_back_at_once(
    stack: Stack, inspector: Part, key: str, upload: Callable[..., str], look: Callable[[str], dict[str, Any]]
) -> None:
    inspector.kill()
    file = upload(b"given back")
    session = file.split("/")[2]
    with holding(stack, "LOCK TABLE blobs IN ACCESS EXCLUSIVE MODE"):
        inspector.start()
        wait_until(lambda: is_blocked(stack, "FROM blobs"), "the worker has claimed the file")
        inspector.send(signal.SIGTERM)
    assert inspector.wait() == 0
    attempts = stack.ledger.value("SELECT attempt_count FROM attachments WHERE session_id = $1::text::uuid", session)
    inspector.start()

    assert attempts <= 1
    comes_to_its_end(stack, file, look, "ready")
