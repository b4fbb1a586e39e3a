"""Brings the database to the schema of this code, by Alembic."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from service.domain.errors import Unavailable
from service.store.connections import DATABASE_TROUBLE
from service.store.engine import plain_url

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"


def configuration(database_url: str) -> Config:
    """Alembic's configuration for this database; there is no ini file to keep in step."""
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.attributes["url"] = plain_url(database_url)
    return config


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
        raise Unavailable(f"PostgreSQL cannot be used ({trouble}): start it, or correct DATABASE_URL.") from error


def _trouble_in(error: BaseException | None) -> BaseException | None:
    """The driver's own error, which SQLAlchemy wraps twice; None: the mistake is in a migration."""
    while error is not None and not isinstance(error, DATABASE_TROUBLE):
        error = error.__cause__
    return error
