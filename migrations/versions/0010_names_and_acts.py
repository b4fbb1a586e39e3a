"""Names of sessions that belong to their users, and keys that speak as the agent.

Revision ID: 0010
Revises: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

LIVING_NAME = (
    "UNIQUE INDEX CONCURRENTLY sessions_living_name_key ON sessions (tenant_id, user_id, external_id) "
    "WHERE external_id IS NOT NULL AND status <> 'ended'"
)
NAME = (
    "INDEX CONCURRENTLY sessions_external_id_idx ON sessions (tenant_id, external_id, created_at, id) "
    "WHERE external_id IS NOT NULL"
)
NAME_OF_A_TENANT = (
    "UNIQUE INDEX CONCURRENTLY sessions_external_id_key ON sessions (tenant_id, external_id) "
    "WHERE external_id IS NOT NULL"
)

ONE_NAME_EACH = """
    WITH ranked AS (
        SELECT id, row_number() OVER (
            PARTITION BY tenant_id, external_id ORDER BY status = 'ended', created_at DESC, id DESC) AS place
        FROM sessions WHERE external_id IS NOT NULL
    )
    UPDATE sessions SET external_id = NULL FROM ranked WHERE sessions.id = ranked.id AND ranked.place > 1
"""


def upgrade() -> None:
    """Let names belong to users, and standing keys of services speak as the agent as they did.

    No row is rewritten, and nothing is held for longer than a moment. The code before goes on working but for
    `POST /sessions`, which asks for the index that is dropped here: replace its web processes at once.
    """
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        # What a migration that was cut off has left is made anew; the old index goes when all else is there.
        op.execute("ALTER TABLE api_keys ADD COLUMN IF NOT EXISTS predates_act boolean NOT NULL DEFAULT true")
        # Building waits for transactions that are older, and holds up nothing meanwhile.
        op.execute("SET lock_timeout = 0")
        for index in (LIVING_NAME, NAME):
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {index.partition('CONCURRENTLY ')[2].split()[0]}")
            op.execute(f"CREATE {index}")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS sessions_external_id_key")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")


def downgrade() -> None:
    """Take back what `upgrade` brought. Keys lose `sessions:act`, which the code before does not know.

    A name that several sessions of a tenant bear stays with one of them: a living one, and of those the newest.
    """
    op.execute("UPDATE api_keys SET scopes = array_remove(scopes, 'sessions:act') WHERE 'sessions:act' = ANY(scopes)")
    op.drop_column("api_keys", "predates_act")
    op.execute(ONE_NAME_EACH)
    with op.get_context().autocommit_block():
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS sessions_external_id_key")
        op.execute(f"CREATE {NAME_OF_A_TENANT}")
        op.execute("DROP INDEX CONCURRENTLY sessions_external_id_idx")
        op.execute("DROP INDEX CONCURRENTLY sessions_living_name_key")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
