"""The migrated schema and the tables on one page are the same schema."""

from __future__ import annotations

import asyncio
import sys
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from service.store import migrate, schema
from service.store.engine import Database
from service.store.tables import METADATA

PROCESSES = 2
MIGRATE = "import sys; from service.store.migrate import upgrade; upgrade(sys.argv[1])"

CATALOGUE = {
    "columns": """
        SELECT c.relname, row_number() OVER (PARTITION BY c.oid ORDER BY a.attnum) AS place, a.attname,
               format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull,
               a.attidentity::text, a.attgenerated::text, a.attcollation::regcollation::text,
               pg_get_expr(d.adbin, d.adrelid) AS expression
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
        ORDER BY c.relname, a.attnum
    """,
    "constraints": """
        SELECT c.relname, k.conname, k.convalidated, pg_get_constraintdef(k.oid) AS definition
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE c.relnamespace = 'public'::regnamespace ORDER BY c.relname, k.conname
    """,
    "indexes": """
        SELECT c.relname, i.relname AS name, pg_get_indexdef(x.indexrelid) AS definition, x.indisvalid, i.reloptions
        FROM pg_index x JOIN pg_class c ON c.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
        WHERE c.relnamespace = 'public'::regnamespace ORDER BY c.relname, i.relname
    """,
    "relations": """
        SELECT relname, relkind::text, relpersistence::text, reloptions FROM pg_class
        WHERE relnamespace = 'public'::regnamespace ORDER BY relname
    """,
    "routines, triggers and types": """
        SELECT proname AS name FROM pg_proc WHERE pronamespace = 'public'::regnamespace
        UNION ALL SELECT tgname FROM pg_trigger
        UNION ALL SELECT typname FROM pg_type
                  WHERE typnamespace = 'public'::regnamespace AND typtype NOT IN ('c', 'b')
    """,
}
ALEMBICS_OWN = ("alembic_version",)


@pytest.fixture
async def empty_database_url(own_database_url: str) -> str:
    """A database without any table."""
    name = f"empty_{uuid4().hex}"
    connection = await asyncpg.connect(own_database_url)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        own_name = await connection.fetchval("SELECT current_database()")
    finally:
        await connection.close()
    return own_database_url.replace(f"/{own_name}", f"/{name}")


async def catalogue(url: str) -> dict[str, list[tuple[object, ...]]]:
    """All that PostgreSQL knows of the tables, but for Alembic's own."""
    connection = await asyncpg.connect(url)
    try:
        return {
            kind: [tuple(row) for row in await connection.fetch(query) if not str(row[0]).startswith(ALEMBICS_OWN)]
            for kind, query in CATALOGUE.items()
        }
    finally:
        await connection.close()


async def create_all(url: str) -> None:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    await engine.dispose()


async def test_the_migrated_schema_and_the_declared_one_are_the_same(own_database_url: str, empty_database_url: str):
    await create_all(empty_database_url)

    migrated, declared = await catalogue(own_database_url), await catalogue(empty_database_url)

    assert {row[0] for row in declared["columns"]} == set(METADATA.tables)
    for kind in CATALOGUE:
        assert migrated[kind] == declared[kind], kind


async def test_the_migrated_tables_leave_room_for_updates_in_place_and_are_vacuumed_early(own_database_url: str):
    relations = (await catalogue(own_database_url))["relations"]

    assert {name: options for name, _, _, options in relations if options} == {
        "sessions": ["fillfactor=70"],
        "outbox": ["autovacuum_vacuum_scale_factor=0.01", "autovacuum_vacuum_threshold=1000"],
    }


async def test_a_downgrade_takes_all_back_and_an_upgrade_brings_all_again(own_database_url: str):
    before = await catalogue(own_database_url)

    await asyncio.to_thread(command.downgrade, migrate.configuration(own_database_url), "base")
    emptied = await catalogue(own_database_url)
    await asyncio.to_thread(migrate.upgrade, own_database_url)

    assert emptied == {kind: [] for kind in CATALOGUE}
    assert await catalogue(own_database_url) == before


async def test_migrating_again_changes_nothing(own_database_url: str):
    before = await catalogue(own_database_url)
    await asyncio.to_thread(migrate.upgrade, own_database_url)

    assert await catalogue(own_database_url) == before
    assert await relay_progress_rows(own_database_url) == 1


async def test_an_index_whose_building_was_cut_off_is_built_anew(own_database_url: str):
    before = await catalogue(own_database_url)
    await asyncio.to_thread(command.downgrade, migrate.configuration(own_database_url), "0007")
    connection = await asyncpg.connect(own_database_url)
    try:
        await connection.execute("CREATE INDEX outbox_tenant_idx ON outbox (tenant_id)")
        await connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'outbox_tenant_idx'::regclass"
        )
    finally:
        await connection.close()

    await asyncio.to_thread(migrate.upgrade, own_database_url)

    assert await catalogue(own_database_url) == before


async def test_processes_that_migrate_at_once_wait_for_each_other(empty_database_url: str, own_database_url: str):
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-W", "error", "-c", MIGRATE, empty_database_url, stderr=asyncio.subprocess.PIPE
        )
        for _ in range(PROCESSES)
    ]
    complaints = [(await process.communicate())[1] for process in processes]

    assert [process.returncode for process in processes] == [0] * PROCESSES, complaints
    assert await catalogue(empty_database_url) == await catalogue(own_database_url)
    assert await relay_progress_rows(empty_database_url) == 1


async def relay_progress_rows(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM relay_progress"))
    finally:
        await connection.close()


@pytest.mark.parametrize("addition", ["sslmode=disable", "application_name=elsewhere&sslmode=prefer"])
@pytest.mark.parametrize("scheme", ["postgres://", "postgresql+asyncpg://"])
async def test_migrations_take_every_url_that_the_service_takes(empty_database_url: str, scheme: str, addition: str):
    url = f"{empty_database_url.replace('postgresql://', scheme)}&{addition}"
    await asyncio.to_thread(migrate.upgrade, url)

    assert await is_current(url)


def test_the_revision_that_the_code_wants_is_the_newest_migration(database_url: str):
    scripts = ScriptDirectory.from_config(migrate.configuration(database_url))

    assert scripts.get_heads() == [schema.REVISION]


@pytest.mark.parametrize(("revision", "current"), [("0000", False), (schema.REVISION, True), ("0999", True)])
async def test_a_database_is_current_at_that_revision_and_past_it(own_database_url: str, revision: str, current: bool):
    connection = await asyncpg.connect(own_database_url)
    await connection.execute("UPDATE alembic_version SET version_num = $1", revision)
    await connection.close()

    assert await is_current(own_database_url) == current


async def test_an_empty_database_is_not_current(empty_database_url: str):
    assert not await is_current(empty_database_url)


async def is_current(url: str) -> bool:
    database = Database(url, connections_max=1)
    await database.open()
    try:
        async with database.connect() as tx:
            return await schema.is_current(tx)
    finally:
        await database.close()
