"""Whoever was told of a change finds it in every process, though its writer died between its commit and its answer.

Such a writer is a process without a cache, which settles nothing. Then one process tells, and the other one is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from uuid import uuid4

import httpx2
import msgspec
import pytest
from eventually import DEADLINE_SECONDS, until
from reading import copied, opened

from service.settings import Switch

LIMIT_BYTES = 1024
"""Of a session's files, as the writer that died has set it: what the session took before is one byte too many."""

SAID = {"content": "words"}
ASKED = {"role": "assistant", "content": "", "tool_calls": [{"tool_name": "run", "arguments": {}}]}
KEY = {"Idempotency-Key": "once"}


class Three(NamedTuple):
    """Clients of three processes, with one and the same key of an own tenant."""

    dying: httpx2.AsyncClient
    telling: httpx2.AsyncClient
    reading: httpx2.AsyncClient
    waiters: set[Any]
    """Who waits for tool calls in the process that tells."""
    channels: dict[bytes, Any]
    """Which streams live there."""


@pytest.fixture(scope="module")
async def processes(running_app, settings) -> AsyncIterator[tuple[Any, Any, Any]]:
    """Apps that share PostgreSQL and Redis, and nothing else; the first has no cache."""
    off = msgspec.structs.replace(settings, cache=Switch.OFF)
    async with running_app(off) as dying, running_app(settings) as telling, running_app(settings) as reading:
        yield dying, telling, reading


@pytest.fixture
async def three(processes, client_of, make_key, forget_copies) -> AsyncIterator[Three]:
    secret = await make_key(f"tenant-{uuid4().hex}")
    clients = [client_of(process, secret) for process in processes]
    for client in clients:
        client.base_url = httpx2.URL("http://holdfast.test/api/v1")
    parts = processes[1].app.state.parts
    yield Three(*clients, parts.watch._waiters, parts.streams._channels)
    for client in clients:
        await client.aclose()
    await forget_copies()  # where a test fails, what stands is older than what was told


async def asked(three: Three) -> tuple[str, str]:
    """A session with a call that waits for a decision; both as paths."""
    session = await opened(three.telling, config={"approval_tools": ["*"]})
    message = (await three.telling.post(f"{session}/messages", json=ASKED)).json()
    return session, f"{session}/tool-calls/{message['tool_calls'][0]['id']}"


async def assert_found(three: Three, session: str) -> None:
    """The process that reads shows what is stored."""
    for path in (session, f"{session}/messages"):
        shown, stored = await three.reading.get(path), await three.dying.get(path)

        assert shown.status_code == stored.status_code
        assert shown.content == stored.content or stored.status_code == 404  # which names the request


@pytest.mark.parametrize(("mode", "code"), [("end", "session_ended"), ("purge", "session_not_found")])
async def test_a_refused_upload_tells_that_the_session_is_over(three, mode, code):
    session = await opened(three.telling)
    await copied(three.reading, session, f"{session}/messages")
    await three.dying.delete(session, params={"mode": mode})
    refused = await three.telling.post(f"{session}/attachments", content=b"file")

    assert refused.json()["code"] == code
    await assert_found(three, session)


@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "counted"])
async def test_an_upload_refused_while_it_comes_tells_of_the_limit(three, is_announced):
    session = await opened(three.telling, config={"max_attachment_size": LIMIT_BYTES + 1})
    await copied(three.reading, session, f"{session}/messages")
    await three.dying.patch(session, json={"config": {"max_attachment_size": LIMIT_BYTES}})

    async def pieces() -> AsyncIterator[bytes]:
        yield bytes(LIMIT_BYTES + 1)

    content = bytes(LIMIT_BYTES + 1) if is_announced else pieces()
    refused = await three.telling.post(f"{session}/attachments", content=content)

    assert (refused.status_code, refused.json()["max_attachment_size"]) == (413, LIMIT_BYTES)
    await assert_found(three, session)


@pytest.mark.parametrize("way", ["asked", "asked with a key", "kept"])
async def test_who_is_shown_the_standing_session_is_told_of_its_changes(three, way):
    opening = {"agent_id": "agent", "external_id": "mine", "if_exists": "return"}
    session = await opened(three.telling, external_id="mine")
    await copied(three.reading, session, f"{session}/messages")
    await three.dying.patch(session, json={"title": "other"})
    if way == "kept":
        await three.dying.post("/sessions", json=opening, headers=KEY)
    standing = await three.telling.post("/sessions", json=opening, headers=None if way == "asked" else KEY)

    assert (standing.status_code, standing.json()["title"]) == (200, "other")
    assert ("Idempotent-Replayed" in standing.headers) == (way == "kept")
    await assert_found(three, session)


async def test_a_kept_opening_settles_the_session_that_it_opened(three):
    opening = {"agent_id": "agent", "activate": True}
    session = f"/sessions/{(await three.telling.post('/sessions', json=opening, headers=KEY)).json()['id']}"
    await copied(three.reading, session, f"{session}/messages")
    await three.dying.delete(session)
    again = await three.telling.post("/sessions", json=opening, headers=KEY)

    assert again.headers["Idempotent-Replayed"] == "true"
    await assert_found(three, session)


REPEATED = {
    "append": ("/messages", {"json": SAID}, 201),
    "batch": ("/messages/batch", {"json": {"messages": [SAID, SAID]}}, 201),
    "upload": ("/attachments", {"content": b"file"}, 201),
    "suspend": ("/suspend", {}, 200),
    "decision": ("/tool-calls/{call}", {"json": {"action": "approve"}}, 200),
}


@pytest.mark.parametrize("change", REPEATED)
async def test_a_kept_answer_tells_of_the_change(three, change):
    session, call = await asked(three)
    await copied(three.reading, session, f"{session}/messages")
    where, sent, status = REPEATED[change]
    path = session + where.format(call=call.rpartition("/")[2])
    lost = await three.dying.post(path, headers=KEY, **sent)
    kept = await three.telling.post(path, headers=KEY, **sent)

    assert (kept.status_code, kept.headers.get("Idempotent-Replayed")) == (status, "true")
    assert kept.content == lost.content
    await assert_found(three, session)


async def waiting(three: Three, call: str) -> asyncio.Task[Any]:
    """Somebody who waits for this call."""
    task = asyncio.create_task(three.telling.get(call, params={"wait": 60}))
    await until(lambda: three.waiters)
    return task


async def test_who_waits_for_a_decision_is_told_of_it(three):
    session, call = await asked(three)
    await copied(three.reading, session, f"{session}/messages")
    task = await waiting(three, call)
    await three.dying.post(call, json={"action": "approve"})

    assert (await task).json()["status"] == "approved"
    await assert_found(three, session)


async def test_who_would_wait_for_a_decision_that_stands_is_told_of_it(three):
    session, call = await asked(three)
    await copied(three.reading, session, f"{session}/messages")
    await three.dying.post(call, json={"action": "approve"})
    answer = await three.telling.get(call, params={"wait": 60})

    assert answer.json()["status"] == "approved"
    await assert_found(three, session)


async def test_who_waits_is_told_that_the_session_is_gone(three):
    session, call = await asked(three)
    await copied(three.reading, session, f"{session}/messages")
    task = await waiting(three, call)
    await three.dying.delete(session, params={"mode": "purge"})

    assert (await task).status_code == 404
    await assert_found(three, session)


async def test_a_wait_that_tells_what_copies_know_lets_them_stand(three):
    session, call = await asked(three)
    await three.telling.post(call, json={"action": "approve"})
    outcome = "miss"
    async with asyncio.timeout(DEADLINE_SECONDS):
        while outcome != "hit":  # a copy may always end by itself in between
            await copied(three.reading, session, f"{session}/messages")
            await three.telling.get(call, params={"wait": 1})
            outcome = (await three.reading.get(session)).headers["X-Cache"]


async def test_a_stream_that_does_not_begin_tells_that_the_session_has_ended(three):
    session = await opened(three.telling)
    await copied(three.reading, session, f"{session}/messages")
    await three.dying.delete(session)
    answer = await three.telling.get(f"{session}/events/stream")

    assert answer.status_code == 204
    await assert_found(three, session)


async def test_a_stream_tells_that_the_session_is_gone(three):
    session = await opened(three.telling)
    await copied(three.reading, session, f"{session}/messages")
    streaming = asyncio.create_task(three.telling.get(f"{session}/events/stream"))
    await until(lambda: three.channels)
    await three.dying.delete(session, params={"mode": "purge"})

    assert ": gone" in (await streaming).text
    await assert_found(three, session)
