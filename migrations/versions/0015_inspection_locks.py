"""What a worker that inspects files says of the locks on its children.

Revision ID: 0015
Revises: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    op.add_column("worker_heartbeats", sa.Column("locks", pg.JSON))


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_column("worker_heartbeats", "locks")
