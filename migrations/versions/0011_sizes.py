"""Sizes of what callers gave, so that a page can end at a size; an index for filters on metadata; rows by tenant.

Code from before this revision leaves sizes as they are: a row without one is measured when it is listed.

Revision ID: 0011
Revises: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = ("sessions", "messages", "tool_calls")
LABELS = """
    (('{"' || hashtextextended(tenant_id, 0)::text || '":' || metadata::text || '}')::jsonb) jsonb_path_ops
"""


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    with op.get_context().autocommit_block():
        # Building waits for transactions that are older, and holds up nothing meanwhile.
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS sessions_labels_idx")  # what a build that was cut off has left
        op.execute(
            f"CREATE INDEX CONCURRENTLY sessions_labels_idx ON sessions USING gin ({LABELS}) "
            "WITH (fastupdate = off) WHERE metadata::text <> '{}'"
        )
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
    for table in TABLES:
        op.add_column(table, sa.Column("size", sa.Integer(), nullable=True))
    op.create_table(
        "tenant_rows",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("estimated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("tenant_rows_pkey")),
    )


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_table("tenant_rows")
    for table in TABLES:
        op.drop_column(table, "size")
    op.execute("DROP INDEX sessions_labels_idx")
