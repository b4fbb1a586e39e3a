"""What PostgreSQL itself is like: its version, and whether it keeps what it has acknowledged."""

from __future__ import annotations

import sqlalchemy as sa

from service.store.engine import Statement, Tx

VERSION = Statement(sa.text("SELECT current_setting('server_version_num')::int"))

KEEPS_COMMITS = Statement(
    sa.text("SELECT current_setting('synchronous_commit') <> 'off' AND current_setting('fsync') = 'on'")
)


async def version(tx: Tx) -> int:
    """The server's version as `server_version_num` writes it: 180001 is 18.1."""
    return int(await tx.value(VERSION))


async def keeps_commits(tx: Tx) -> bool:
    """Whether a commit is on disk before it is acknowledged; else a power cut loses some."""
    return bool(await tx.value(KEEPS_COMMITS))
