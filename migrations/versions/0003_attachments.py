"""Attachments, the blobs that hold their bytes, and what messages say of them.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    op.create_table(
        "attachments",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("message_id", sa.UUID(), nullable=True),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=False),
        sa.Column("declared_content_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("attachment_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("properties", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("metadata", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("text_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("thumbnail_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("scanned_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("uploaded_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("processed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("deleted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("attempt_count", sa.SmallInteger(), nullable=False),
        sa.Column("lease_token", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "status IN ('uploaded', 'processing', 'ready', 'failed', 'quarantined')",
            name=op.f("attachments_status_check"),
        ),
        sa.CheckConstraint(
            "attachment_type IN ('image', 'document', 'code', 'data', 'other')", name=op.f("attachments_type_check")
        ),
        sa.CheckConstraint(
            "(processed_at IS NULL) = (status IN ('uploaded', 'processing'))",
            name=op.f("attachments_processed_at_check"),
        ),
        sa.PrimaryKeyConstraint("session_id", "id", name=op.f("attachments_pkey")),
    )
    op.create_index(
        "attachments_due_idx",
        "attachments",
        ["due_at"],
        postgresql_where=sa.text("status IN ('uploaded', 'processing') AND deleted_at IS NULL"),
    )
    op.create_table(
        "blobs",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("reference_count", sa.Integer(), nullable=False),
        sa.CheckConstraint("reference_count > 0", name=op.f("blobs_reference_count_check")),
        sa.PrimaryKeyConstraint("tenant_id", "sha256", name=op.f("blobs_pkey")),
    )
    op.create_table(
        "loose_blobs",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("is_doomed", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("loose_blobs_pkey")),
    )
    op.create_index("loose_blobs_due_idx", "loose_blobs", ["due_at"])
    op.create_table(
        "tenant_storage",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("bytes >= 0", name=op.f("tenant_storage_bytes_check")),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("tenant_storage_pkey")),
    )
    op.add_column("messages", sa.Column("attachment_ids", postgresql.ARRAY(sa.UUID()), nullable=True))


def downgrade() -> None:
    """Take back what `upgrade` added; files that were stored meanwhile stay where they are."""
    op.drop_column("messages", "attachment_ids")
    op.drop_table("tenant_storage")
    op.drop_table("loose_blobs")
    op.drop_table("blobs")
    op.drop_table("attachments")
