"""The inbox of what waits is read by an index that holds nothing else, however many calls are done."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from conversations import service_of, user_of

from service.domain.caller import Caller
from service.domain.tool_call import CallStatus
from service.store import inbox
from service.store.engine import Database, Statement, Tx
from service.store.inbox import Filters

CALLS = 50_000
PENDING = 100
SERVICE, USER = service_of("tenant-1"), user_of("tenant-1", "user-1")
PENDING_INDEX = re.compile(r"tool_calls_(user_)?pending_idx")
"""Both hold nothing but pending calls, so that either serves."""
WAITING = Filters(statuses=(CallStatus.PENDING,))


class Explained(msgspec.Struct):
    """A handle that explains instead of running."""

    connection: asyncpg.Connection[Any]
    plans: list[str]

    async def rows(self, statement: Statement, **parameters: Any) -> list[Any]:
        lines = await self.connection.fetch(f"EXPLAIN {statement.text}", *statement.arguments(parameters))
        self.plans.append("\n".join(line[0] for line in lines))
        return []

    async def value(self, statement: Statement, **parameters: Any) -> int:
        return len(await self.rows(statement, **parameters))


@pytest.fixture(scope="module")
async def crowded(new_database_url: Any) -> AsyncIterator[Database]:
    """50,000 calls in 500 sessions of ten users; 100 of them wait."""
    database = Database(await new_database_url(), connections_max=1)
    await database.open()
    async with database.connect() as tx:
        await tx._connection.execute(
            f"""
            WITH spoken AS (
                INSERT INTO sessions (id, tenant_id, user_id, agent_id, status, config, metadata, tags, message_count,
                    attachment_count, pending_tool_call_count, version, last_message_seq, last_event_seq, created_at,
                    updated_at, expires_at)
                SELECT gen_random_uuid(), 'tenant-1', 'user-' || n % 10, 'agent', 'active',
                       '{{"max_messages": 10, "timeout_minutes": 60}}', '{{}}', '{{}}', 0, 0, 0, 1, 0, 0,
                       now(), now(), now() + interval '1 day'
                FROM generate_series(1, 500) n
                RETURNING id, user_id
            )
            INSERT INTO tool_calls (tenant_id, session_id, id, message_id, user_id, agent_id, tool_name, arguments,
                requires_approval, status, created_at, version)
            SELECT 'tenant-1', id, gen_random_uuid(), gen_random_uuid(), user_id, 'agent', 'shell', '{{}}', true,
                   CASE WHEN row_number() OVER () % {CALLS // PENDING} = 0 THEN 'pending' ELSE 'completed' END, now(), 1
            FROM spoken, generate_series(1, {CALLS // 500})
            """
        )
        await tx._connection.execute("ANALYZE sessions, tool_calls")
    yield database
    await database.close()


async def plans_of(database: Database, caller: Caller, mode: str, before_id: UUID | None) -> list[str]:
    async with database.begin() as tx:
        await tx._connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        explained = Explained(tx._connection, [])
        handle: Any = explained
        kept: Tx = handle
        await inbox.page(kept, caller, WAITING, before_id=before_id, limit=51)
    return explained.plans


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("before_id", [None, UUID(int=2**127)])
@pytest.mark.parametrize("caller", [SERVICE, USER], ids=["a tenant's", "a user's"])
async def test_what_waits_is_listed_and_counted_by_the_index_of_what_waits(
    crowded: Database, caller: Caller, before_id: UUID | None, mode: str
):
    plans = await plans_of(crowded, caller, mode, before_id)

    assert len(plans) == 2
    for plan in plans:
        assert PENDING_INDEX.search(plan), plan
        assert "Seq Scan on tool_calls" not in plan, plan


async def test_all_that_wait_are_found_among_the_many_that_are_done(crowded: Database):
    async with crowded.connect() as tx:
        found, count = await inbox.page(tx, SERVICE, WAITING, before_id=None, limit=200)
        own, own_count = await inbox.page(tx, USER, WAITING, before_id=None, limit=200)

    assert (len(found), count) == (PENDING, PENDING)
    assert len(own) == own_count < PENDING
    assert [call.id for call in found] == sorted((call.id for call in found), reverse=True)
