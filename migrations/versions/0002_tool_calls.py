"""Tool calls, and what messages say of them.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    op.create_table(
        "tool_calls",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("message_id", sa.UUID(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("provider_call_id", sa.Text(), nullable=True),
        sa.Column("tool_name", sa.Text(), nullable=False),
        sa.Column("arguments", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("original_arguments", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("requires_approval", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("executed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("result", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('pending', 'approved', 'rejected', 'expired', 'running', 'completed', 'failed', 'cancelled')",
            name=op.f("tool_calls_status_check"),
        ),
        sa.CheckConstraint("(decided_by IS NULL) = (decided_at IS NULL)", name=op.f("tool_calls_decision_check")),
        sa.PrimaryKeyConstraint("session_id", "id", name=op.f("tool_calls_pkey")),
    )
    op.create_index("tool_calls_id_idx", "tool_calls", ["id"])
    op.create_index("tool_calls_inbox_idx", "tool_calls", ["tenant_id", "id"])
    op.create_index(
        "tool_calls_late_idx",
        "tool_calls",
        ["expires_at"],
        postgresql_where=sa.text("status = 'pending' AND expires_at IS NOT NULL"),
    )
    op.create_index("tool_calls_message_idx", "tool_calls", ["session_id", "message_id"])
    op.create_index(
        "tool_calls_pending_idx", "tool_calls", ["tenant_id", "id"], postgresql_where=sa.text("status = 'pending'")
    )
    op.create_index("tool_calls_user_inbox_idx", "tool_calls", ["tenant_id", "user_id", "id"])
    op.create_index(
        "tool_calls_user_pending_idx",
        "tool_calls",
        ["tenant_id", "user_id", "id"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.add_column("messages", sa.Column("tool_call_id", sa.UUID(), nullable=True))
    op.add_column("messages", sa.Column("tool_call_count", sa.SmallInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_column("messages", "tool_call_count")
    op.drop_column("messages", "tool_call_id")
    op.drop_table("tool_calls")
