"""What gives a session its full time again: messages and the steps of tool calls, and nothing that is no activity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from conversations import CAUSE, acted, asked, filed, let_pass, opened, query, said

from service.commands.attachments import delete_attachment
from service.commands.messages import append_messages, delete_message
from service.commands.sessions import Change, change_session, move_session
from service.domain.caller import Caller
from service.domain.message import MessageDraft, Role
from service.domain.session import Move, Session, SessionConfig, Status
from service.domain.tool_call import CallStatus, ToolCall
from service.store import sessions, tool_calls
from service.store.engine import Database
from workers.jobs.expire_tool_calls import sweep_late_tool_calls

ONE_MINUTE = SessionConfig(timeout_minutes=1)
FULL_TIME = timedelta(minutes=1)
HALF = FULL_TIME / 2

Deed = Callable[[Database, Caller, ToolCall], Awaitable[Any]]
"""Something that is done in a session; the call is one of it that waits for a decision."""


async def read(database: Database, caller: Caller, session_id: UUID) -> Session:
    async with database.connect() as tx:
        session = await sessions.get(tx, caller, session_id)
    assert session is not None
    return session


async def stored(database: Database, session_id: UUID) -> tuple[datetime, datetime]:
    """When the session changed last, and when its time is over."""
    (row,) = await query(database, "SELECT updated_at, expires_at FROM sessions WHERE id = $1", session_id)
    return row["updated_at"], row["expires_at"]


async def test_a_tool_that_runs_keeps_its_session_alive_and_its_result_is_kept(database: Database, caller: Caller):
    session = await opened(database, caller, config=ONE_MINUTE)
    (call,) = await asked(database, caller, session.id, "shell")
    await let_pass(database, session.id, timedelta(seconds=50))
    await acted(database, caller, call, "approve")
    await acted(database, caller, call, "start")
    await let_pass(database, session.id, timedelta(seconds=14))

    await acted(database, caller, call, "complete", result=b'"done"')

    async with database.connect() as tx:
        _, now = await tool_calls.get(tx, caller, session.id, call.id)
    assert now is not None
    assert (now.status, bytes(now.result or b"")) == (CallStatus.COMPLETED, b'"done"')
    assert (await read(database, caller, session.id)).status is Status.ACTIVE


async def tell_the_result(database: Database, caller: Caller, call: ToolCall) -> None:
    draft = MessageDraft(role=Role.TOOL, tool_call_id=str(call.id), content="done")
    async with database.begin() as tx:
        await append_messages(tx, caller, call.session_id, [draft], CAUSE)


async def move(database: Database, caller: Caller, call: ToolCall, wanted: Move) -> None:
    async with database.begin() as tx:
        await move_session(tx, caller, call.session_id, wanted, None, CAUSE)


def act(action: str, **fields: Any) -> Deed:
    return lambda database, caller, call: acted(database, caller, call, action, **fields)


def go(wanted: Move) -> Deed:
    return lambda database, caller, call: move(database, caller, call, wanted)


RENEWING: dict[str, tuple[list[Deed], Deed]] = {
    "message": ([], lambda database, caller, call: said(database, caller, call.session_id, "hello")),
    "approve": ([], act("approve")),
    "reject": ([], act("reject")),
    "cancel": ([], act("cancel")),
    "start": ([act("approve")], act("start")),
    "complete": ([act("approve"), act("start")], act("complete", result=b"1")),
    "fail": ([act("approve"), act("start")], act("fail", error="boom")),
    "tool message": ([act("approve")], tell_the_result),
    "tool message of a rejected call": ([act("reject")], tell_the_result),
    "decision in a suspended session": ([go(Move.SUSPEND)], act("approve")),
    "resume": ([go(Move.SUSPEND)], go(Move.RESUME)),
    "activate": ([go(Move.SUSPEND)], go(Move.ACTIVATE)),
}


@pytest.mark.parametrize("name", RENEWING)
async def test_activity_gives_a_session_its_full_time_again(database: Database, caller: Caller, name: str):
    before, deed = RENEWING[name]
    session = await opened(database, caller, config=ONE_MINUTE)
    (call,) = await asked(database, caller, session.id, "shell")
    for earlier in before:
        await earlier(database, caller, call)
    await let_pass(database, session.id, HALF)

    await deed(database, caller, call)

    updated_at, expires_at = await stored(database, session.id)
    assert expires_at == updated_at + FULL_TIME


async def rename(database: Database, caller: Caller, call: ToolCall) -> None:
    async with database.begin() as tx:
        await change_session(tx, caller, call.session_id, Change(title="new"), None, CAUSE)


async def delete_its_message(database: Database, caller: Caller, call: ToolCall) -> None:
    async with database.begin() as tx:
        await delete_message(tx, caller, call.session_id, call.message_id, CAUSE)


async def add_and_delete_a_file(database: Database, caller: Caller, call: ToolCall) -> None:
    file = await filed(database, caller, call.session_id)
    async with database.begin() as tx:
        await delete_attachment(tx, caller, call.session_id, file.id, CAUSE)


STANDING: dict[str, tuple[list[Deed], Deed]] = {
    "patch": ([], rename),
    "suspend": ([], go(Move.SUSPEND)),
    "deletion of a message that cancels calls": ([], delete_its_message),
    "files": ([], add_and_delete_a_file),
    "the very same decision again": ([act("approve")], act("approve")),
}


@pytest.mark.parametrize("name", STANDING)
async def test_what_is_no_activity_leaves_the_time_of_a_session_as_it_is(database: Database, caller: Caller, name: str):
    before, deed = STANDING[name]
    session = await opened(database, caller, config=ONE_MINUTE)
    (call,) = await asked(database, caller, session.id, "shell")
    for earlier in before:
        await earlier(database, caller, call)
    await let_pass(database, session.id, HALF)
    _, expires_at = await stored(database, session.id)

    await deed(database, caller, call)

    assert (await stored(database, session.id))[1] == expires_at


async def test_a_call_that_expires_by_itself_leaves_the_time_of_its_session_as_it_is(
    own_database: Database, caller: Caller
):
    config = SessionConfig(timeout_minutes=1, approval_timeout_seconds=20)
    session = await opened(own_database, caller, config=config)
    await asked(own_database, caller, session.id, "shell")
    await let_pass(own_database, session.id, HALF)
    _, expires_at = await stored(own_database, session.id)

    assert await sweep_late_tool_calls(own_database) == 1

    assert (await stored(own_database, session.id))[1] == expires_at


async def test_a_step_counts_the_timeout_that_the_session_has_by_then(database: Database, caller: Caller):
    session = await opened(database, caller, config=ONE_MINUTE)
    (call,) = await asked(database, caller, session.id, "shell")
    async with database.begin() as tx:
        await change_session(tx, caller, session.id, Change(config={"timeout_minutes": 5}), None, CAUSE)

    await acted(database, caller, call, "approve")

    updated_at, expires_at = await stored(database, session.id)
    assert expires_at == updated_at + timedelta(minutes=5)


async def test_a_decision_moves_the_time_of_the_session_and_not_the_deadlines_of_its_other_calls(
    database: Database, caller: Caller
):
    config = SessionConfig(timeout_minutes=1, approval_timeout_seconds=50)
    session = await opened(database, caller, config=config)
    first, second = await asked(database, caller, session.id, "a", "b")
    await let_pass(database, session.id, HALF)
    await acted(database, caller, first, "approve")
    await let_pass(database, session.id, HALF)

    async with database.connect() as tx:
        _, late = await tool_calls.get(tx, caller, session.id, second.id)
    assert late is not None
    assert late.status is CallStatus.EXPIRED
    assert (await read(database, caller, session.id)).status is Status.ACTIVE
