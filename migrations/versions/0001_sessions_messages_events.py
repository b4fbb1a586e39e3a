"""Sessions, messages, events and their outbox; API keys; idempotency keys; workers' signs of life.

Revision ID: 0001
Revises: nothing
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Expand: add what the new code needs, so that the old code goes on working."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_pkey")),
        sa.UniqueConstraint("digest", name=op.f("api_keys_digest_key")),
    )
    op.create_index("api_keys_tenant_idx", "api_keys", ["tenant_id", "created_at", "id"])
    op.create_table(
        "events",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_subject", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("data", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.PrimaryKeyConstraint("session_id", "seq", name=op.f("events_pkey")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.UUID(), nullable=True),
        sa.Column("message_ids", postgresql.ARRAY(sa.UUID()), nullable=True),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=True),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("idempotency_keys_pkey")),
    )
    op.create_index("idempotency_keys_created_idx", "idempotency_keys", ["created_at"])
    op.create_index(
        "idempotency_keys_session_idx",
        "idempotency_keys",
        ["session_id"],
        postgresql_where=sa.text("session_id IS NOT NULL"),
    )
    op.create_table(
        "messages",
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.UUID(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("content", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("metadata", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("usage", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("parent_id", sa.UUID(), nullable=True),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("role IN ('user', 'assistant', 'system', 'tool')", name=op.f("messages_role_check")),
        sa.CheckConstraint("(deleted_at IS NULL) = (content IS NOT NULL)", name=op.f("messages_tombstone_check")),
        sa.PrimaryKeyConstraint("session_id", "seq", name=op.f("messages_pkey")),
        sa.UniqueConstraint("session_id", "id", name=op.f("messages_session_id_id_key")),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.UUID(), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("outbox_pkey")),
        postgresql_with={"autovacuum_vacuum_scale_factor": "0.01", "autovacuum_vacuum_threshold": "1000"},
    )
    op.create_table(
        "relay_progress",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("relayed_total", sa.BigInteger(), nullable=False),
        sa.Column("relayed_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("id = 1", name=op.f("relay_progress_single_row_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("relay_progress_pkey")),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("agent_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("config", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("metadata", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("tags", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("message_count", sa.Integer(), nullable=False),
        sa.Column("attachment_count", sa.Integer(), nullable=False),
        sa.Column("pending_tool_call_count", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("last_message_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_event_seq", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("last_message_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expires_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("end_reason", sa.Text(), nullable=True),
        sa.Column(
            "max_messages",
            sa.Integer(),
            sa.Computed("(config ->> 'max_messages')::integer", persisted=True),
            nullable=True,
        ),
        sa.Column(
            "timeout_minutes",
            sa.Integer(),
            sa.Computed("(config ->> 'timeout_minutes')::integer", persisted=True),
            nullable=True,
        ),
        sa.Column(
            "updated_minute",
            sa.TIMESTAMP(timezone=True),
            sa.Computed(
                "date_bin('00:01:00'::interval, updated_at, '2000-01-01 00:00:00+00'::timestamp with time zone)",
                persisted=True,
            ),
            nullable=True,
        ),
        sa.Column(
            "expires_minute",
            sa.TIMESTAMP(timezone=True),
            sa.Computed(
                "date_bin('00:01:00'::interval, expires_at, '2000-01-01 00:00:00+00'::timestamp with time zone)",
                persisted=True,
            ),
            nullable=True,
        ),
        sa.CheckConstraint("(status = 'ended') = (end_reason IS NOT NULL)", name=op.f("sessions_ended_why_check")),
        sa.CheckConstraint("(status = 'ended') = (ended_at IS NOT NULL)", name=op.f("sessions_ended_at_check")),
        sa.CheckConstraint("end_reason IN ('requested', 'expired')", name=op.f("sessions_end_reason_check")),
        sa.CheckConstraint("status IN ('created', 'active', 'suspended', 'ended')", name=op.f("sessions_status_check")),
        sa.CheckConstraint("message_count BETWEEN 0 AND last_message_seq", name=op.f("sessions_message_count_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("sessions_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("sessions_created_idx", "sessions", ["tenant_id", "created_at", "id"])
    op.create_index(
        "sessions_expiry_idx", "sessions", ["expires_minute"], postgresql_where=sa.text("status <> 'ended'")
    )
    op.create_index(
        "sessions_external_id_key",
        "sessions",
        ["tenant_id", "external_id"],
        unique=True,
        postgresql_where=sa.text("external_id IS NOT NULL"),
    )
    op.create_index("sessions_updated_idx", "sessions", ["tenant_id", "updated_minute"])
    op.create_index("sessions_user_created_idx", "sessions", ["tenant_id", "user_id", "created_at", "id"])
    op.create_table(
        "worker_heartbeats",
        sa.Column("worker_id", sa.UUID(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("worker_heartbeats_pkey")),
    )
    op.execute("INSERT INTO relay_progress (id, relayed_total) VALUES (1, 0)")


def downgrade() -> None:
    """Take back what `upgrade` added."""
    op.drop_table("worker_heartbeats")
    op.drop_table("sessions")
    op.drop_table("relay_progress")
    op.drop_table("outbox")
    op.drop_table("messages")
    op.drop_table("idempotency_keys")
    op.drop_table("events")
    op.drop_table("api_keys")
