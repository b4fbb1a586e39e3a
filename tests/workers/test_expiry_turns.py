"""Sweeps take turns by tenant: while much of one tenant's is over and recorded, another's is, too."""

from __future__ import annotations

from uuid import UUID

import pytest
from conversations import asked, let_its_time_pass, opened, query, service_of

from service.domain.caller import Caller
from service.domain.session import SessionConfig
from service.store import expiry, late_calls
from service.store.engine import Database
from workers.jobs import expire_sessions, expire_tool_calls
from workers.jobs.expire_sessions import sweep_expired_sessions
from workers.jobs.expire_tool_calls import sweep_late_tool_calls

MANY, FEW = service_of("a-many"), service_of("b-few")
FLOOD = 7


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of seven is one: a batch has two, and four are a crowd."""
    monkeypatch.setattr(expire_sessions, "BATCH_SESSIONS_MAX", 2)
    monkeypatch.setattr(expire_tool_calls, "BATCH_CALLS_MAX", 2)
    monkeypatch.setattr(expiry, "CROWD", 4)
    monkeypatch.setattr(late_calls, "CROWD", 4)


async def over(database: Database, caller: Caller, count: int) -> list[UUID]:
    """Sessions whose time is over."""
    sessions = [await opened(database, caller) for _ in range(count)]
    for session in sessions:
        await let_its_time_pass(database, session.id)
    return [session.id for session in sessions]


async def late(database: Database, caller: Caller, count: int) -> list[UUID]:
    """Sessions with one call each that was not decided on in time."""
    sessions = [await opened(database, caller, config=SessionConfig(approval_timeout_seconds=60)) for _ in range(count)]
    for session in sessions:
        await asked(database, caller, session.id, "a")
        await query(
            database,
            "UPDATE tool_calls SET expires_at = now() - interval '1 minute' WHERE session_id = $1 RETURNING 1",
            session.id,
        )
    return [session.id for session in sessions]


async def test_a_session_of_another_tenant_is_recorded_after_one_batch_of_a_flood(own_database: Database):
    flood = await over(own_database, MANY, FLOOD)
    (single,) = await over(own_database, FEW, 1)
    await query(
        own_database, "UPDATE sessions SET expires_at = expires_at - interval '1 hour' WHERE tenant_id = 'a-many'"
    )
    recorded: list[UUID] = []

    assert await sweep_expired_sessions(own_database, recorded.append) == FLOOD + 1
    assert sorted(recorded) == sorted([*flood, single])
    assert recorded.index(single) == 2


async def test_a_call_of_another_tenant_is_recorded_after_one_batch_of_a_flood(own_database: Database):
    flood = await late(own_database, MANY, FLOOD)
    (single,) = await late(own_database, FEW, 1)
    recorded: list[UUID] = []

    assert await sweep_late_tool_calls(own_database, recorded.append) == FLOOD + 1
    assert sorted(recorded) == sorted([*flood, single])
    assert recorded.index(single) == 2


async def test_only_tenants_with_something_to_record_are_asked_in_a_flood(own_database: Database):
    await over(own_database, MANY, FLOOD)
    await late(own_database, FEW, FLOOD)
    await opened(own_database, service_of("c-calm"))
    await asked(own_database, service_of("d-calm"), (await opened(own_database, service_of("d-calm"))).id, "a")

    async with own_database.connect() as tx:
        assert await expiry.due_tenants(tx) == [MANY.tenant_id]
        assert await late_calls.tenants(tx) == [FEW.tenant_id]
