"""The role that serves reads and writes all tables, owns none, and can change none.

The app of all tests, and the processes of the end-to-end tests, work as it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from eventually import until

from service.domain.errors import Unavailable
from service.embedded.servers import as_serving
from service.store import migrate
from service.store.roles import ServingRole, admit, role_in
from service.store.tables import METADATA


@pytest.fixture
async def serving(own_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the role that serves."""
    connection = await asyncpg.connect(as_serving(own_database_url))
    yield connection
    await connection.close()


@pytest.fixture
async def owning(own_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the role that owns the tables."""
    connection = await asyncpg.connect(own_database_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (n int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE EXTENSION pg_trgm",
        "ALTER TABLE messages ADD COLUMN mine int",
        "ALTER TABLE messages DISABLE TRIGGER ALL",
        "DROP TABLE events",
        "DROP INDEX outbox_tenant_idx",
        "TRUNCATE messages",
        "UPDATE alembic_version SET version_num = '0000'",
        "DELETE FROM alembic_version",
        "CREATE ROLE mine",
        "CREATE DATABASE mine",
        "ALTER SYSTEM SET fsync = off",
        "SET session_replication_role = replica",
        "SET ROLE postgres",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT rolpassword FROM pg_authid",
        "COPY messages TO PROGRAM 'cat'",
        "COPY messages TO '/tmp/holdfast-stolen'",
    ],
)
async def test_it_changes_no_table_and_reaches_nothing_but_rows(serving: asyncpg.Connection, statement: str):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await serving.execute(statement)


async def test_it_reads_and_writes_every_table_and_reads_the_version(serving: asyncpg.Connection):
    rights = {
        table: [
            right
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
            if await serving.fetchval("SELECT has_table_privilege($1, $2)", table, right)
        ]
        for table in (*METADATA.tables, "alembic_version")
    }

    all_four = ["SELECT", "INSERT", "UPDATE", "DELETE"]
    assert rights == dict.fromkeys(METADATA.tables, all_four) | {"alembic_version": ["SELECT"]}


async def test_a_table_of_a_later_migration_is_let_in_when_that_runs(
    own_database_url: str, serving: asyncpg.Connection, owning: asyncpg.Connection
):
    await owning.execute("REVOKE ALL ON messages FROM holdfast_app")  # as a table that is new to it
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await serving.fetch("SELECT FROM messages")

    await asyncio.to_thread(migrate.prepare, as_serving(own_database_url), own_database_url)

    assert await serving.fetch("SELECT FROM messages") == []


@pytest.fixture
async def asked_for_its_password(
    owning: asyncpg.Connection, own_database_url: str
) -> AsyncIterator[tuple[str, ServingRole]]:
    """A role that is not there yet, and that PostgreSQL will ask for its password; and the address to connect to."""
    role = ServingRole(f"Role of {uuid4().hex}", "a 'quoted' \\ pass$word")
    url = own_database_url.replace("postgres@", "", 1)
    rules = Path(await owning.fetchval("SHOW hba_file"))
    before = await asyncio.to_thread(rules.read_text)
    await asyncio.to_thread(rules.write_text, f'local all "{role.name}" scram-sha-256\n{before}')
    await owning.fetchval("SELECT pg_reload_conf()")
    await until(lambda: is_refused_by_its_password(url, role.name))
    try:
        yield url, role
    finally:
        await asyncio.to_thread(rules.write_text, before)
        await owning.fetchval("SELECT pg_reload_conf()")
        await remove(owning, role.name)


async def is_refused_by_its_password(url: str, name: str) -> bool:
    """Whether somebody who calls himself that is asked for a password, and refused for another one."""
    try:
        await (await asyncpg.connect(url, user=name, password="another")).close()
    except asyncpg.InvalidPasswordError:
        return True
    except asyncpg.InvalidAuthorizationSpecificationError:
        return False
    return False


async def remove(owning: asyncpg.Connection, role: str) -> None:
    """Remove a role and what it was granted."""
    await owning.execute(f'DROP OWNED BY "{role}"')
    await owning.execute(f'DROP ROLE "{role}"')


async def test_a_role_that_is_missing_is_made_with_its_password_of_which_no_statement_tells(
    asked_for_its_password: tuple[str, ServingRole], own_database_url: str, owning: asyncpg.Connection
):
    url, role = asked_for_its_password
    for _ in range(2):
        await asyncio.to_thread(admit, own_database_url, role)

    connection = await asyncpg.connect(url, user=role.name, password=role.password)
    rows = await connection.fetch("SELECT FROM messages")
    await connection.close()
    kept = await owning.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = $1", role.name)
    assert rows == []
    assert await is_refused_by_its_password(url, role.name)
    assert kept.startswith("SCRAM-SHA-256$4096:")


async def test_an_owner_that_may_not_make_roles_is_told_who_may(own_database_url: str):
    with pytest.raises(Unavailable, match="have an administrator of PostgreSQL make it"):
        await asyncio.to_thread(admit, as_serving(own_database_url), ServingRole("missing", None))


def test_a_url_names_its_role():
    assert role_in("postgresql://holdfast%5Fapp:p%40ss@db/name") == ServingRole("holdfast_app", "p@ss")
    assert role_in("postgresql+asyncpg://only@/name?host=/run") == ServingRole("only", None)


async def test_several_at_once_make_it_once(own_database_url: str, owning: asyncpg.Connection):
    role = ServingRole(f"role_{uuid4().hex}", None)
    await asyncio.gather(*[asyncio.to_thread(admit, own_database_url, role) for _ in range(4)])
    made = await owning.fetchval("SELECT count(*) FROM pg_roles WHERE rolname = $1", role.name)
    await remove(owning, role.name)

    assert made == 1
