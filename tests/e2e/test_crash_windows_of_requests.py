"""A web process ends in each window of a request: nothing acknowledged is lost, nothing is done twice."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from crash_windows import REPEATS, arm, contents, ended_in_its_window, post
from stack import Stack, wait_until

COMMITS = ("before_commit", "after_commit", "after_push")
FILE = bytes(range(256)) * 32_000
"""Eight MiB: the store takes parts of five, so it has written one before all has come."""
LATE_BLOCK = "mid_upload:11"
"""Passed before the 13th block, each of half a MiB and a bit."""


def all_is_well(stack: Stack) -> bool:
    """Every process works, every event is told, and every rule holds."""
    stack.heal()
    stack.wait_until_relayed()
    return stack.ledger.violations() == []


@pytest.mark.parametrize("window", COMMITS)
def test_a_message_with_a_key_is_there_once_whenever_its_process_ended(
    stack: Stack, key: str, open_session: Callable[..., str], window: str
) -> None:
    session = open_session()
    for number in range(REPEATS):
        arm(stack.webs[0], window)
        request = {"json": {"content": f"{number}"}, "headers": {"Idempotency-Key": uuid4().hex}}
        first = post(stack.webs[0], key, f"/sessions/{session}/messages", **request)
        assert ended_in_its_window(stack.webs[0])
        stored = contents(stack, session)
        again = post(stack.webs[1], key, f"/sessions/{session}/messages", **request)

        was_stored = window != "before_commit"
        assert stored[number:] == [f"{number}"] * was_stored
        assert again is not None
        assert (again.status_code, again.headers.get("idempotent-replayed") == "true") == (201, was_stored)
        assert first is None or (window == "after_push" and first.json() == again.json())

    assert contents(stack, session) == [f"{number}" for number in range(REPEATS)]
    assert all_is_well(stack)


@pytest.mark.parametrize("window", COMMITS)
def test_a_message_of_a_single_statement_is_there_whole_or_not_at_all(
    stack: Stack, key: str, open_session: Callable[..., str], window: str
) -> None:
    session = open_session()
    for number in range(REPEATS):
        arm(stack.webs[0], window)
        first = post(stack.webs[0], key, f"/sessions/{session}/messages", json={"content": f"{number}"})
        assert ended_in_its_window(stack.webs[0])
        assert first is None or (window == "after_push" and first.status_code == 201)

    was_stored = window != "before_commit"
    assert contents(stack, session) == [f"{number}" for number in range(REPEATS)] * was_stored
    assert all_is_well(stack)


@pytest.mark.parametrize("window", ["mid_upload", LATE_BLOCK, "before_commit", "after_commit"])
def test_a_file_is_there_once_and_nothing_of_it_is_left_over(
    stack: Stack, key: str, open_session: Callable[..., str], window: str
) -> None:
    session = open_session()
    content = FILE if window == LATE_BLOCK else b"a small file"
    files = stack.folder / "files"
    for number in range(REPEATS):
        arm(stack.webs[0], window)
        request = {
            "files": {"file": (f"{number}.bin", content)},
            "headers": {"Idempotency-Key": uuid4().hex},
        }
        before = sum(path.stat().st_size for path in files.rglob("*") if path.is_file())
        first = post(stack.webs[0], key, f"/sessions/{session}/attachments", **request)
        assert ended_in_its_window(stack.webs[0])
        left = sum(path.stat().st_size for path in files.rglob("*") if path.is_file()) - before
        again = post(stack.webs[1], key, f"/sessions/{session}/attachments", **request)

        assert first is None
        assert left > 0, "some bytes of the first upload are in the store"
        assert again is not None
        was_stored = window == "after_commit"
        assert (again.status_code, again.headers.get("idempotent-replayed") == "true") == (201, was_stored)

    looked_into = "SELECT count(*) FROM attachments WHERE session_id = $1::text::uuid AND processed_at IS NOT NULL"
    wait_until(lambda: stack.ledger.value(looked_into, session) == REPEATS, "every file is looked into")
    assert all_is_well(stack)
    stack.ledger.rows("UPDATE loose_blobs SET due_at = now()")
    wait_until(lambda: stack.ledger.value("SELECT count(*) FROM loose_blobs") == 0, "what nobody adopted is deleted")
    kept = {row["key"] for row in stack.ledger.rows("SELECT key FROM blobs")}
    assert {str(path.relative_to(files)) for path in files.rglob("*") if path.is_file()} == kept
