"""Whether the database has the schema that this code needs."""

from __future__ import annotations

import asyncpg
import sqlalchemy as sa

from service.store.engine import Statement, Tx

REVISION = "0016"
"""The newest migration; a test holds it equal to Alembic's head. Revisions are numbers of four digits."""

CURRENT = Statement(sa.text("SELECT version_num FROM alembic_version"))


async def is_current(tx: Tx) -> bool:
    """True when the database stands at `REVISION`, or past it: migrations expand first, so this code works on."""
    try:
        found: str | None = await tx.value(CURRENT)
    except asyncpg.UndefinedTableError:
        return False
    return found is not None and found >= REVISION
