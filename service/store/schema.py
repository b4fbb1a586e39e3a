"""Whether the database has the schema that this code was written for."""

from __future__ import annotations

import asyncpg
import sqlalchemy as sa

from service.store.engine import Statement, Tx

REVISION = "0001"
"""The newest migration; a test holds it equal to Alembic's head."""

CURRENT = Statement(sa.text("SELECT version_num FROM alembic_version"))


async def is_current(tx: Tx) -> bool:
    """True when the database stands at `REVISION`."""
    try:
        return bool(await tx.value(CURRENT) == REVISION)
    except asyncpg.UndefinedTableError:
        return False
