"""Who made and who revoked a key, when it was last used, and who made a webhook's endpoint.

Revision ID: 0014
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: columns that may be NULL, which rewrites no row and holds each table for an instant."""
    op.add_column("api_keys", sa.Column("created_by", sa.Text))
    op.add_column("api_keys", sa.Column("revoked_by", sa.Text))
    op.add_column("api_keys", sa.Column("last_used_at", sa.TIMESTAMP(timezone=True)))
    op.add_column("webhook_endpoints", sa.Column("created_by", sa.Text))


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_column("webhook_endpoints", "created_by")
    for name in ("last_used_at", "revoked_by", "created_by"):
        op.drop_column("api_keys", name)
