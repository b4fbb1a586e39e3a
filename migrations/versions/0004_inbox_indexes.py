"""An index for every filter of the inbox: by agent, by tool, by status.

Revision ID: 0004
Revises: 0003
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    op.create_index("tool_calls_agent_inbox_idx", "tool_calls", ["tenant_id", "agent_id", "id"])
    op.create_index("tool_calls_name_inbox_idx", "tool_calls", ["tenant_id", "tool_name", "id"])
    op.create_index("tool_calls_status_inbox_idx", "tool_calls", ["tenant_id", "status", "id"])


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_index("tool_calls_status_inbox_idx", table_name="tool_calls")
    op.drop_index("tool_calls_name_inbox_idx", table_name="tool_calls")
    op.drop_index("tool_calls_agent_inbox_idx", table_name="tool_calls")
