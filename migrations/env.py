"""Runs migrations on an async engine, one process at a time, without waiting long for a lock."""

from __future__ import annotations

import asyncio
from functools import partial

import asyncpg
import sqlalchemy as sa
from alembic import context
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from service.store.tables import METADATA

MIGRATION_LOCK = 0x4D696772
"""The advisory lock ("Migr" in ASCII) that lets one process migrate while others wait."""

LOCK_POLL_SECONDS = 0.1
"""A migration takes longer, and a start that waits for one is in no hurry."""

LOCK_TIMEOUT = "5s"
"""A migration that waits for a table lock stalls every writer behind it: better to fail and be run again."""


async def run() -> None:
    """Open one connection, take the migration lock, bring the schema to head."""
    # asyncpg reads the URL itself: SQLAlchemy would pass on parameters such as sslmode in a way that asyncpg refuses.
    connect = partial(asyncpg.connect, context.config.attributes["url"])
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await lead(connection)
            await connection.execute(sa.text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
            await connection.commit()
            await connection.run_sync(migrate)
            await connection.commit()
    finally:
        await engine.dispose()


async def lead(connection: AsyncConnection) -> None:
    """Wait for the migration lock, in no transaction: `CREATE INDEX CONCURRENTLY` of who holds it waits for those."""
    while not await connection.scalar(sa.text("SELECT pg_try_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK}):
        await connection.commit()
        await asyncio.sleep(LOCK_POLL_SECONDS)


def migrate(connection: sa.Connection) -> None:
    """Run what is missing, each migration in a transaction of its own."""
    context.configure(connection=connection, target_metadata=METADATA, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


asyncio.run(run())
