"""Every listing of the inbox is read by an index in the order of its pages, however many calls are done.

At 50,000 calls; what 1,000,000 take stands in `docs/operations.md`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from conversations import crowd, service_of, user_of

from service.domain.caller import Caller
from service.domain.tool_call import CallStatus
from service.store import inbox
from service.store.engine import Database, Statement, Tx
from service.store.inbox import COUNT_MAX, Filters

CALLS = 50_000
PENDING = 100
SERVICE, USER = service_of("tenant-1"), user_of("tenant-1", "user-1")
PENDING_INDEX = r"tool_calls_((user_)?pending|status_inbox)_idx"
"""Each leads to pending calls and no others, so that any of them serves."""
WAITING = Filters(statuses=(CallStatus.PENDING,))
SOMEWHERE = UUID(int=2**127)


class Explained(msgspec.Struct):
    """A handle that explains the queries instead of running them, each with its values, as the inbox has it planned."""

    connection: asyncpg.Connection[Any]
    plans: list[str] = []

    async def rows(self, statement: Statement, **parameters: Any) -> list[Any]:
        if statement is inbox.PLAN_ANEW:
            await self.connection.execute(statement.text)
            return []
        lines = await self.connection.fetch(f"EXPLAIN {statement.text}", *statement.arguments(parameters))
        self.plans.append("\n".join(line[0] for line in lines))
        return []

    async def value(self, statement: Statement, **parameters: Any) -> int:
        return len(await self.rows(statement, **parameters))


@pytest.fixture(scope="module")
async def crowded(new_database_url: Any) -> AsyncIterator[Database]:
    """50,000 calls of one agent in 500 sessions of ten users: 100 wait, two run, the rest is done."""
    url = await new_database_url()
    await crowd(
        url,
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
        ), called AS (SELECT *, row_number() OVER () AS n FROM spoken, generate_series(1, {CALLS // 500}))
        INSERT INTO tool_calls (tenant_id, session_id, id, message_id, user_id, agent_id, tool_name, arguments,
            requires_approval, status, created_at, version)
        SELECT 'tenant-1', id, gen_random_uuid(), gen_random_uuid(), user_id, 'agent', 'shell', '{{}}', true,
               CASE WHEN n % {CALLS // PENDING} = 0 THEN 'pending' WHEN n IN (1, 2) THEN 'running'
                    ELSE 'completed' END, now(), 1
        FROM called
        """,
        "VACUUM ANALYZE sessions, tool_calls",
    )
    database = Database(url, connections_max=1)
    await database.open()
    yield database
    await database.close()


async def plans_of(database: Database, caller: Caller, filters: Filters, before_id: UUID | None) -> list[str]:
    async with database.begin() as tx:
        explained = Explained(tx._connection)
        handle: Any = explained
        kept: Tx = handle
        await inbox.page(kept, caller, filters, before_id=before_id, limit=51)
        assert await tx._connection.fetchval("SHOW plan_cache_mode") == "force_custom_plan"
    return explained.plans


@pytest.mark.parametrize("before_id", [None, SOMEWHERE])
@pytest.mark.parametrize("caller", [SERVICE, USER], ids=["a tenant's", "a user's"])
async def test_what_waits_is_listed_and_counted_by_the_index_of_what_waits(
    crowded: Database, caller: Caller, before_id: UUID | None
):
    plans = await plans_of(crowded, caller, WAITING, before_id)

    assert len(plans) == 2
    for plan in plans:
        assert re.search(PENDING_INDEX, plan), plan
        assert "Seq Scan on tool_calls" not in plan, plan


@pytest.mark.parametrize("before_id", [None, SOMEWHERE])
@pytest.mark.parametrize(
    ("filters", "index"),
    [
        (Filters(), r"tool_calls_inbox_idx"),
        (Filters(agent_id="nobody"), r"tool_calls_agent_inbox_idx"),
        (Filters(tool_name="nothing"), r"tool_calls_name_inbox_idx"),
        (Filters(user_id="user-1"), r"tool_calls_user_inbox_idx"),
        (Filters(statuses=(CallStatus.RUNNING,)), r"tool_calls_status_inbox_idx"),
        (Filters(statuses=(CallStatus.FAILED,)), r"tool_calls_status_inbox_idx"),
        (Filters(statuses=(CallStatus.COMPLETED,)), r"tool_calls_status_inbox_idx"),
        (Filters(statuses=(CallStatus.CANCELLED,)), r"tool_calls_status_inbox_idx"),
        (Filters(statuses=(CallStatus.EXPIRED, CallStatus.PENDING)), r"tool_calls_status_inbox_idx"),
        (Filters(statuses=(CallStatus.PENDING,), agent_id="nobody"), r"tool_calls_(pending|agent_inbox)_idx"),
    ],
    ids=str,
)
async def test_what_few_calls_match_is_not_searched_among_all(
    crowded: Database, filters: Filters, index: str, before_id: UUID | None
):
    plans = await plans_of(crowded, SERVICE, filters, before_id)

    assert len(plans) == 2
    for plan in plans:
        assert re.search(index, plan), plan
        assert "Seq Scan on tool_calls" not in plan, plan


async def test_all_that_wait_are_found_among_the_many_that_are_done(crowded: Database):
    async with crowded.begin() as tx:
        found, count = await inbox.page(tx, SERVICE, WAITING, before_id=None, limit=200)
        own, own_count = await inbox.page(tx, USER, WAITING, before_id=None, limit=200)

    assert (len(found), count) == (PENDING, PENDING)
    assert len(own) == own_count < PENDING
    assert [call.id for call in found] == sorted((call.id for call in found), reverse=True)


@pytest.mark.parametrize("statuses", [(), (CallStatus.COMPLETED,), tuple(CallStatus)], ids=["any", "one", "each"])
async def test_counting_stops_where_nobody_reads_on(crowded: Database, statuses: tuple[CallStatus, ...]):
    async with crowded.begin() as tx:
        _, count = await inbox.page(tx, SERVICE, Filters(statuses=statuses), before_id=None, limit=1)

    assert count == COUNT_MAX
