"""What copies in Redis are sealed with, and what looking at them found.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    op.create_table(
        "cache_state",
        sa.Column("id", sa.SmallInteger, autoincrement=False, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
        sa.Column("sampled_total", sa.BigInteger, nullable=False),
        sa.Column("stale_total", sa.BigInteger, nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("cache_state_single_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("cache_state_pkey")),
    )
    # 244 random bits, from the generator of cryptographic strength that PostgreSQL has without an extension.
    op.execute(
        """
        INSERT INTO cache_state (id, secret, sampled_total, stale_total)
        VALUES (1, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 0, 0)
        """
    )


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_table("cache_state")
