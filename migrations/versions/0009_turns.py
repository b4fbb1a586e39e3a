"""What lets tenants take turns at work that waits: files, events, sessions and tool calls whose time is over.

Revision ID: 0009
Revises: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

INDEXES = {
    "attachments_turn_idx": (
        "attachments (tenant_id, session_id, due_at) WHERE status IN ('uploaded', 'processing') AND deleted_at IS NULL"
    ),
    "outbox_tenant_idx": "outbox (tenant_id, id)",
    "sessions_tenant_expiry_idx": "sessions (tenant_id, expires_minute) WHERE status <> 'ended'",
    "tool_calls_tenant_late_idx": (
        "tool_calls (tenant_id, expires_at) WHERE status = 'pending' AND expires_at IS NOT NULL"
    ),
}


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    with op.get_context().autocommit_block():
        # Building waits for transactions that are older, and holds up nothing meanwhile.
        lock_timeout = op.get_bind().scalar(sa.text("SHOW lock_timeout"))
        op.execute("SET lock_timeout = 0")
        for name, definition in INDEXES.items():
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")  # what a build that was cut off has left
            op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {definition}")
        op.execute(f"SET lock_timeout = '{lock_timeout}'")
    op.create_table(
        "inspection_turns",
        sa.Column("tenant_id", sa.Text, nullable=False),
        sa.Column("served_session_id", sa.UUID, nullable=False),
        sa.Column("turn", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("inspection_turns_pkey")),
    )


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_table("inspection_turns")
    for name in INDEXES:
        op.execute(f"DROP INDEX {name}")
