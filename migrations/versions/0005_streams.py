"""The order of events across sessions, and tickets for streams.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    op.create_table(
        "event_positions",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("session_id", pg.UUID(as_uuid=True), nullable=False),
        sa.Column("event_seq", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "position", name="event_positions_pkey"),
    )
    op.create_index("event_positions_user_idx", "event_positions", ["tenant_id", "user_id", "position"])
    op.create_index("event_positions_session_idx", "event_positions", ["session_id"])
    op.create_table(
        "stream_tickets",
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("session_id", pg.UUID(as_uuid=True)),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("caller_kind", sa.Text, nullable=False),
        sa.Column("key_digest", sa.LargeBinary),
        sa.Column("token_ends", sa.Double),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="stream_tickets_pkey"),
    )


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_table("stream_tickets")
    op.drop_table("event_positions")
