"""Indexes for contexts: the messages of the system, and the results of a call.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    op.create_index(
        "messages_system_idx", "messages", ["session_id", "seq"],
        postgresql_where=sa.text("role IN ('system', 'developer')"),
    )  # fmt: skip
    op.create_index(
        "messages_result_idx", "messages", ["session_id", "tool_call_id"],
        postgresql_where=sa.text("tool_call_id IS NOT NULL"),
    )  # fmt: skip


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_index("messages_result_idx", table_name="messages")
    op.drop_index("messages_system_idx", table_name="messages")
