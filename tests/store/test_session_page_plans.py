"""The common listings are read by index, with any plan that PostgreSQL may choose for a prepared statement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from conversations import crowd, service_of, user_of

from service.domain.caller import Caller
from service.store import session_labels, session_pages
from service.store.engine import Database, Tx
from service.store.session_pages import Filters, Position

ROWS = 20_000
TENANTS, USERS = 5, 50
POSITION = Position(datetime(2026, 1, 1, tzinfo=UTC), UUID(int=2**127))
SERVICE, USER = service_of("tenant-1"), user_of("tenant-1", "user-1")


class Explained(msgspec.Struct):
    """A handle that explains instead of running."""

    connection: asyncpg.Connection[Any]
    plans: list[str]
    explain: str = "EXPLAIN"

    async def rows(self, statement: session_pages.Statement, **parameters: Any) -> list[Any]:
        if statement is session_labels.BY_LABELS:
            await self.connection.execute(statement.text)
            return []
        lines = await self.connection.fetch(f"{self.explain} {statement.text}", *statement.arguments(parameters))
        self.plans.append("\n".join(line[0] for line in lines))
        return []


@pytest.fixture(scope="module")
async def crowded(new_database_url: Any) -> AsyncIterator[Database]:
    """20,000 sessions of 5 tenants, of 50 users each."""
    url = await new_database_url()
    await crowd(
        url,
        f"""
        INSERT INTO sessions (id, tenant_id, user_id, agent_id, status, config, metadata, tags, message_count,
            attachment_count, pending_tool_call_count, version, last_message_seq, last_event_seq, created_at,
            updated_at, expires_at)
        SELECT gen_random_uuid(), 'tenant-' || n % {TENANTS}, 'user-' || n / {TENANTS} % {USERS}, 'agent', 'active',
               '{{"max_messages": 10, "timeout_minutes": 60}}', json_build_object('thread', n::text, 'kind', 'chat'),
               '{{}}', 0, 0, 0, 1, 0, 0, at, at,
               at + interval '100 days'
        FROM generate_series(1, {ROWS}) n, LATERAL (SELECT clock_timestamp() - n * interval '10 s' AS at) moment
        """,
        "ANALYZE sessions",
    )
    database = Database(url, connections_max=1)
    await database.open()
    yield database
    await database.close()


async def plan_of(database: Database, caller: Caller, mode: str, **options: Any) -> str:
    """The plan of a listing; `mode`: planned for these parameters, or once for all."""
    asked: dict[str, Any] = {"sort": "-created_at", "position": None, "limit": 51}
    async with database.begin() as tx:
        await tx._connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        explained = Explained(tx._connection, [])
        handle: Any = explained
        kept: Tx = handle
        await session_pages.page(kept, caller, options.pop("filters", Filters()), **asked | options)
    return explained.plans[0]


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("position", [None, POSITION])
@pytest.mark.parametrize("sort", ["-created_at", "created_at"])
@pytest.mark.parametrize(
    ("caller", "filters", "index"),
    [
        (SERVICE, Filters(), "sessions_created_idx"),
        (USER, Filters(), "sessions_user_created_idx"),
        (SERVICE, Filters(user_id="user-1"), "sessions_user_created_idx"),
    ],
    ids=["a tenant's", "a user's", "a tenant's of one user"],
)
async def test_a_listing_by_creation_is_read_in_order_from_its_index(
    crowded: Database, caller: Caller, filters: Filters, index: str, sort: str, position: Position | None, mode: str
):
    plan = await plan_of(crowded, caller, mode, filters=filters, sort=sort, position=position)

    assert index in plan, plan
    assert "Seq Scan" not in plan, plan
    assert "Sort" not in plan, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("position", [None, POSITION])
@pytest.mark.parametrize("sort", ["-updated_at", "updated_at"])
async def test_a_listing_by_change_is_read_by_the_minute_and_sorted_within_it(
    crowded: Database, sort: str, position: Position | None, mode: str
):
    plan = await plan_of(crowded, SERVICE, mode, sort=sort, position=position)

    assert "sessions_updated_idx" in plan, plan
    assert "Incremental Sort" in plan, plan
    assert "Seq Scan" not in plan, plan


async def test_a_session_is_found_by_your_own_name_for_it_by_index(crowded: Database):
    plan = await plan_of(crowded, SERVICE, "auto", filters=Filters(external_id="mine"))

    assert "sessions_external_id_idx" in plan, plan


ONE_THREAD, ALL_CHATS = Filters(metadata=(("thread", '"6"'),)), Filters(metadata=(("kind", '"chat"'),))


@pytest.mark.parametrize("sort", ["-created_at", "updated_at"])
async def test_what_metadata_says_is_found_by_its_index_and_never_by_reading_the_table(crowded: Database, sort: str):
    for filters in (ONE_THREAD, ALL_CHATS):
        plan = await plan_of(crowded, SERVICE, "auto", filters=filters, sort=sort)

        assert "Bitmap Index Scan on sessions_labels_idx" in plan, plan
        assert "Seq Scan on sessions" not in plan, plan


async def test_a_label_of_many_sessions_is_walked_to_in_the_order_of_the_page_and_a_rare_one_is_not(crowded: Database):
    walks = {}
    for name, filters in (("rare", ONE_THREAD), ("common", ALL_CHATS)):
        async with crowded.begin() as tx:
            explained = Explained(tx._connection, [], "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF)")
            handle: Any = explained
            await session_pages.page(handle, SERVICE, filters, sort="-created_at", position=None, limit=51)
            (plan,) = explained.plans
        (walk,) = [part for part in plan.split("Limit") if "sessions_created_idx" in part]
        walks[name] = "never executed" not in walk

    assert walks == {"rare": False, "common": True}


async def test_a_label_finds_the_same_sessions_whichever_way_it_is_looked_for(crowded: Database):
    async with crowded.begin() as tx:
        page = {"sort": "-created_at", "position": None, "limit": 50}
        everything = await session_pages.page(tx, SERVICE, Filters(), **page)
        many = await session_pages.page(tx, SERVICE, ALL_CHATS, **page)
        rows = await tx._connection.fetch("SELECT id FROM sessions WHERE metadata ->> 'thread' = '6'")
        one = await session_pages.page(tx, SERVICE, Filters(metadata=(("thread", '"6"'), ("kind", '"chat"'))), **page)
        others = await session_pages.page(tx, service_of("tenant-2"), ONE_THREAD, **page)

    assert [listed.session.id for listed in many] == [listed.session.id for listed in everything]
    assert [listed.session.id for listed in one] == [row["id"] for row in rows]
    assert others == []
