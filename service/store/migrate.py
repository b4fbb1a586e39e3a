"""Brings the database to the schema of this code, by Alembic."""

from __future__ import annotations

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config

from service.store.engine import plain_url

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"


def configuration(database_url: str) -> Config:
    """Alembic's configuration for this database; there is no ini file to keep in step."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["url"] = plain_url(database_url).replace("postgresql://", "postgresql+asyncpg://", 1)
    return config


def upgrade(database_url: str) -> None:
    """Run the migrations that are missing; safe to call at every start, from several processes at once."""
    command.upgrade(configuration(database_url), "head")


async def upgrade_in_thread(database_url: str) -> None:
    """`upgrade` from a running event loop."""
    await asyncio.to_thread(upgrade, database_url)
