"""What PostgreSQL itself is like: its version, and whether it keeps what it has acknowledged."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from service.store.engine import Statement, Tx

VERSION = Statement(sa.text("SELECT current_setting('server_version_num')::int"))

KEEPS_COMMITS = Statement(
    sa.text("SELECT current_setting('synchronous_commit') <> 'off' AND current_setting('fsync') = 'on'")
)

RIGHTS = Statement(
    sa.text("""
    SELECT r.rolname AS role, r.rolsuper AS is_superuser,
           EXISTS (SELECT FROM pg_class c WHERE c.relowner = r.oid AND c.relnamespace = current_schema()::regnamespace)
               AS owns_tables,
           r.rolcreaterole OR r.rolcreatedb OR has_schema_privilege(current_schema(), 'CREATE') AS may_create
    FROM pg_roles r WHERE r.rolname = current_user
    """)
)


class Rights(msgspec.Struct, frozen=True):
    """What the connected role may do beyond reading and writing rows."""

    role: str
    is_superuser: bool
    owns_tables: bool
    may_create: bool


async def version(tx: Tx) -> int:
    """The server's version as `server_version_num` writes it: 180001 is 18.1."""
    return int(await tx.value(VERSION))


async def keeps_commits(tx: Tx) -> bool:
    """Whether a commit is on disk before it is acknowledged; else a power cut loses some."""
    return bool(await tx.value(KEEPS_COMMITS))


async def rights(tx: Tx) -> Rights:
    """Who is connected, and whether that role could change or remove tables."""
    row = await tx.row(RIGHTS)
    if row is None:
        raise RuntimeError("PostgreSQL does not know the role that is connected.")
    return Rights(*row)
