"""Brings the database to the schema of this code, by Alembic."""

from __future__ import annotations

from pathlib import Path

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from service.domain.errors import Unavailable
from service.store.connections import DATABASE_TROUBLE
from service.store.engine import plain_url
from service.store.roles import admit, role_in

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"


def configuration(database_url: str) -> Config:
    """Alembic's configuration for this database; there is no ini file to keep in step."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["url"] = plain_url(database_url)
    return config


def prepare(database_url: str, owner_url: str | None) -> None:
    """Migrate, and let the role of `database_url` read and write what `owner_url`'s owns; None: it owns it itself.

    Raises:
        Unavailable: as `upgrade` does, or the role may not be made.
    """
    upgrade(owner_url or database_url)
    if owner_url is not None:
        admit(owner_url, role_in(database_url))


def upgrade(database_url: str) -> None:
    """Run the migrations that are missing; safe to call at every start, from several processes at once.

    Raises:
        Unavailable: PostgreSQL is away, refuses the user or the database, or a table stays locked.
    """
    try:
        command.upgrade(configuration(database_url), "head")
    except (*DATABASE_TROUBLE, DBAPIError) as error:
        trouble = _trouble_in(error)
        if trouble is None:
            raise
        if isinstance(trouble, asyncpg.InsufficientPrivilegeError):
            raise Unavailable(
                f"The tables cannot be changed by this role ({trouble}): name the one that owns them in "
                "HOLDFAST_DATABASE_OWNER_URL."
            ) from error
        raise Unavailable(f"PostgreSQL cannot be used ({trouble}): start it, or correct DATABASE_URL.") from error


def _trouble_in(error: BaseException | None) -> BaseException | None:
    """The driver's own error, which SQLAlchemy wraps twice; None: the mistake is in a migration."""
    while error is not None and not isinstance(error, (*DATABASE_TROUBLE, asyncpg.InsufficientPrivilegeError)):
        error = error.__cause__
    return error
