"""The migration to names of users and to keys that speak as the agent, and back, with rows in the tables."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from alembic import command

from service.domain.api_key import digest
from service.domain.caller import Scope
from service.ids import new_id
from service.store import api_keys, migrate
from service.store.engine import Database

BEFORE = "0009"
OPEN = """
    INSERT INTO sessions (id, tenant_id, user_id, agent_id, status, external_id, config, metadata, tags, message_count,
        attachment_count, pending_tool_call_count, version, last_message_seq, last_event_seq, created_at, updated_at,
        expires_at, ended_at, end_reason)
    VALUES ($1, 't', $2, 'a', $3, $4, '{"max_messages": 10, "timeout_minutes": 60}', '{}', '{}', 0, 0, 0, 1, 0, 0,
        now(), now(), now() + interval '1 h', CASE WHEN $3 = 'ended' THEN now() END,
        CASE WHEN $3 = 'ended' THEN 'requested' END)
"""
MAKE = """
    INSERT INTO api_keys (id, tenant_id, name, user_id, scopes, digest, hint, created_at)
    VALUES ($1, 't', $2, $3, $4, $5, 'hint', now())
"""


@pytest.fixture
async def connection(own_database_url: str) -> Any:
    """A connection to a database as it was before."""
    await asyncio.to_thread(command.downgrade, migrate.configuration(own_database_url), BEFORE)
    opened = await asyncpg.connect(own_database_url)
    yield opened
    await opened.close()


async def upgraded(url: str) -> None:
    await asyncio.to_thread(migrate.upgrade, url)


async def make(connection: asyncpg.Connection[Any], name: str, user_id: str | None, *scopes: str) -> UUID:
    id_ = new_id()
    await connection.execute(MAKE, id_, name, user_id, list(scopes), digest(name))
    return id_


async def scopes_of(database: Database, name: str) -> frozenset[Scope]:
    async with database.connect() as tx:
        found = await api_keys.find(tx, digest(name))
        listed = {key.name: frozenset(key.scopes) for key in await api_keys.page(tx, "t", before_id=None, limit=99)}
    assert found is not None
    assert listed[name] == found.caller.scopes
    return found.caller.scopes


async def test_standing_keys_of_services_that_write_speak_as_the_agent_and_no_others(
    connection: asyncpg.Connection[Any], own_database_url: str, own_database: Database
):
    read, write, act = Scope.SESSIONS_READ, Scope.SESSIONS_WRITE, Scope.SESSIONS_ACT
    await make(connection, "agent", None, read, write)
    await make(connection, "reader", None, read)
    await make(connection, "ada", "ada", read, write)
    await upgraded(own_database_url)
    await make(connection, "made by a process from before", None, write)

    assert await scopes_of(own_database, "agent") == {read, write, act}
    assert await scopes_of(own_database, "reader") == {read}
    assert await scopes_of(own_database, "ada") == {read, write}
    assert await scopes_of(own_database, "made by a process from before") == {write, act}


async def test_standing_names_stay_and_are_free_for_other_users_and_after_the_end(
    connection: asyncpg.Connection[Any], own_database_url: str
):
    await connection.execute(OPEN, new_id(), "ada", "active", "living")
    await connection.execute(OPEN, new_id(), "ada", "ended", "over")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(OPEN, new_id(), "bob", "active", "living")
    await upgraded(own_database_url)

    await connection.execute(OPEN, new_id(), "bob", "active", "living")
    await connection.execute(OPEN, new_id(), "ada", "active", "over")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(OPEN, new_id(), "ada", "suspended", "living")


async def test_a_downgrade_leaves_each_name_to_a_living_session_and_takes_the_new_scope_away(
    connection: asyncpg.Connection[Any], own_database_url: str
):
    await upgraded(own_database_url)
    await make(connection, "agent", None, "sessions:write", "sessions:act")
    living, ended, other = new_id(), new_id(), new_id()
    await connection.execute(OPEN, living, "ada", "active", "name")
    await connection.execute(OPEN, ended, "ada", "ended", "name")
    await connection.execute(OPEN, other, "ada", "ended", "other")

    await asyncio.to_thread(command.downgrade, migrate.configuration(own_database_url), BEFORE)

    names = {row["id"]: row["external_id"] for row in await connection.fetch("SELECT id, external_id FROM sessions")}
    assert names == {living: "name", ended: None, other: "other"}
    assert await connection.fetchval("SELECT scopes FROM api_keys") == ["sessions:write"]
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(OPEN, new_id(), "bob", "active", "name")


async def test_a_migration_that_was_cut_off_is_run_again(connection: asyncpg.Connection[Any], own_database_url: str):
    await connection.execute("ALTER TABLE api_keys ADD COLUMN predates_act boolean NOT NULL DEFAULT true")
    await connection.execute("CREATE UNIQUE INDEX sessions_living_name_key ON sessions (tenant_id)")
    await upgraded(own_database_url)

    await connection.execute(OPEN, new_id(), "ada", "active", "one")
    await connection.execute(OPEN, new_id(), "ada", "active", "two")
