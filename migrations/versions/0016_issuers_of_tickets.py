"""Which issuer's token a ticket was given for, so that the log names its user as it names that of the token.

Revision ID: 0016
Revises: 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    op.add_column("stream_tickets", sa.Column("issuer", sa.Text))


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_column("stream_tickets", "issuer")
