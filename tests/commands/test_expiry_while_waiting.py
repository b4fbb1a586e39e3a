"""A change that waited for its session decides by the time after the wait, not by the time at which it asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import sqlalchemy as sa
from conversations import CAUSE, a_lock_is_awaited, acted, asked, opened, query, said

from service.commands.sessions import Change, change_session
from service.domain.caller import Caller
from service.domain.errors import SessionExpired
from service.domain.tool_call import ToolCall
from service.store.engine import Database, Statement

HOLD = Statement(sa.text("SELECT FROM sessions WHERE id = :id FOR UPDATE"))
ITS_TIME_ENDS_NOW = Statement(sa.text("UPDATE sessions SET expires_at = clock_timestamp() WHERE id = :id"))


async def speak(database: Database, caller: Caller, call: ToolCall) -> None:
    await said(database, caller, call.session_id, "too late")


async def rename(database: Database, caller: Caller, call: ToolCall) -> None:
    async with database.begin() as tx:
        await change_session(tx, caller, call.session_id, Change(title="too late"), None, CAUSE)


async def decide(database: Database, caller: Caller, call: ToolCall) -> None:
    await acted(database, caller, call, "approve")


@pytest.mark.parametrize("change", [speak, rename, decide])
async def test_what_waited_until_its_session_had_run_out_changes_nothing(
    own_database: Database, caller: Caller, change: Callable[..., Awaitable[Any]]
):
    session = await opened(own_database, caller)
    (call,) = await asked(own_database, caller, session.id, "shell")
    before = await query(own_database, "SELECT count(*) AS events FROM events")
    async with own_database.begin() as holder:
        await holder.rows(HOLD, id=session.id)
        late = asyncio.create_task(change(own_database, caller, call))
        await a_lock_is_awaited(own_database)
        await holder.rows(ITS_TIME_ENDS_NOW, id=session.id)

    with pytest.raises(SessionExpired):
        await late
    assert await query(own_database, "SELECT count(*) AS events FROM events") == before
