"""All tables on one page.

There are no foreign keys between a session and its children: a child is only ever written by a statement that holds
the session's row lock, purging deletes them under the same lock, and the check would cost a lookup per message.
Payloads that callers own (`content`, `metadata`, `usage`) are `json`, not `jsonb`: they come back as they were sent.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

METADATA = sa.MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "pk": "%(table_name)s_pkey",
    }
)

Time = sa.TIMESTAMP(timezone=True)
Id = pg.UUID(as_uuid=True)


def minute_of(column: str) -> sa.Computed:
    """The minute in which `column` lies.

    Indexes on the minute instead of the exact time let PostgreSQL update a session in place (a heap-only tuple) for
    every message but the first in each minute; the exact order within a minute is sorted out when reading.
    """
    origin = "'2000-01-01 00:00:00+00'::timestamp with time zone"
    return sa.Computed(f"date_bin('00:01:00'::interval, {column}, {origin})", persisted=True)


LABELS = (
    """(('{"'::text || hashtextextended(tenant_id, 0::bigint)::text || '":'::text || metadata::text"""
    """ || '}'::text)::jsonb)"""
)
"""Metadata under a hash of its tenant, so that the labels of each tenant are looked for by themselves."""

LABELLED = "metadata::text <> '{}'::text"

sessions = sa.Table(
    "sessions",
    METADATA,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("agent_id", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("title", sa.Text),
    sa.Column("external_id", sa.Text),
    sa.Column("config", pg.JSONB, nullable=False),
    sa.Column("metadata", pg.JSON, nullable=False),
    sa.Column("tags", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("message_count", sa.Integer, nullable=False),
    sa.Column("attachment_count", sa.Integer, nullable=False),
    sa.Column("pending_tool_call_count", sa.Integer, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("last_message_seq", sa.BigInteger, nullable=False),
    sa.Column("last_event_seq", sa.BigInteger, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    sa.Column("last_message_at", Time),
    sa.Column("expires_at", Time, nullable=False),
    sa.Column("ended_at", Time),
    sa.Column("end_reason", sa.Text),
    sa.Column("max_messages", sa.Integer, sa.Computed("(config ->> 'max_messages')::integer", persisted=True)),
    sa.Column("timeout_minutes", sa.Integer, sa.Computed("(config ->> 'timeout_minutes')::integer", persisted=True)),
    sa.Column("updated_minute", Time, minute_of("updated_at")),
    sa.Column("expires_minute", Time, minute_of("expires_at")),
    # Bytes of what callers gave; NULL where code from before 0011 wrote the row. Of messages and tool calls likewise.
    sa.Column("size", sa.Integer),
    sa.CheckConstraint("status IN ('created', 'active', 'suspended', 'ended')", name="status"),
    sa.CheckConstraint("(status = 'ended') = (ended_at IS NOT NULL)", name="ended_at"),
    sa.CheckConstraint("(status = 'ended') = (end_reason IS NOT NULL)", name="ended_why"),
    sa.CheckConstraint("end_reason IN ('requested', 'expired')", name="end_reason"),
    sa.CheckConstraint("message_count BETWEEN 0 AND last_message_seq", name="message_count"),
    # A name belongs to a user, and is free again once its session has ended.
    sa.Index("sessions_living_name_key", "tenant_id", "user_id", "external_id", unique=True,
             postgresql_where=sa.text("external_id IS NOT NULL AND status <> 'ended'")),
    sa.Index("sessions_external_id_idx", "tenant_id", "external_id", "created_at", "id",
             postgresql_where=sa.text("external_id IS NOT NULL")),
    sa.Index("sessions_created_idx", "tenant_id", "created_at", "id"),
    sa.Index("sessions_user_created_idx", "tenant_id", "user_id", "created_at", "id"),
    sa.Index("sessions_updated_idx", "tenant_id", "updated_minute"),
    sa.Index("sessions_expiry_idx", "expires_minute", postgresql_where=sa.text("status <> 'ended'")),
    sa.Index("sessions_tenant_expiry_idx", "tenant_id", "expires_minute",
             postgresql_where=sa.text("status <> 'ended'")),
    # Each session pays for its own entries: a list of pending ones would be sorted in by whoever comes next.
    sa.Index("sessions_labels_idx", sa.text(f"{LABELS} jsonb_path_ops"), postgresql_using="gin",
             postgresql_where=sa.text(LABELLED), postgresql_with={"fastupdate": "off"}),
    # A page of 70 % full leaves room for the in-place updates that every message makes to its session.
    postgresql_with={"fillfactor": "70"},
)  # fmt: skip

messages = sa.Table(
    "messages",
    METADATA,
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("session_id", Id, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", Id, nullable=False),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("content", pg.JSON),
    sa.Column("metadata", pg.JSON, nullable=False),
    sa.Column("usage", pg.JSON),
    sa.Column("parent_id", Id),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("deleted_at", Time),
    sa.Column("tool_call_id", Id),
    sa.Column("tool_call_count", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("attachment_ids", pg.ARRAY(Id)),
    sa.Column("size", sa.Integer),
    sa.CheckConstraint("role IN ('user', 'assistant', 'system', 'tool')", name="role"),
    sa.CheckConstraint("(deleted_at IS NULL) = (content IS NOT NULL)", name="tombstone"),
    sa.UniqueConstraint("session_id", "id"),
    # The few that stay in every context, and the results that belong to a call: found among all that was said.
    sa.Index("messages_system_idx", "session_id", "seq", postgresql_where=sa.text("role IN ('system', 'developer')")),
    sa.Index("messages_result_idx", "session_id", "tool_call_id",
             postgresql_where=sa.text("tool_call_id IS NOT NULL")),
)  # fmt: skip

tool_calls = sa.Table(
    "tool_calls",
    METADATA,
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("session_id", Id, primary_key=True),
    sa.Column("id", Id, primary_key=True),
    sa.Column("message_id", Id, nullable=False),
    # The session's own, which never change: the inbox filters by them without a join.
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Column("agent_id", sa.Text, nullable=False),
    sa.Column("provider_call_id", sa.Text),
    sa.Column("tool_name", sa.Text, nullable=False),
    sa.Column("arguments", pg.JSON, nullable=False),
    sa.Column("original_arguments", pg.JSON),
    sa.Column("requires_approval", sa.Boolean, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("decided_by", sa.Text),
    sa.Column("decided_at", Time),
    sa.Column("reason", sa.Text),
    sa.Column("expires_at", Time),
    sa.Column("started_at", Time),
    sa.Column("executed_at", Time),
    sa.Column("result", pg.JSON),
    sa.Column("error", sa.Text),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("size", sa.Integer),
    sa.CheckConstraint(
        "status IN ('pending', 'approved', 'rejected', 'expired', 'running', 'completed', 'failed', 'cancelled')",
        name="status",
    ),
    sa.CheckConstraint("(decided_by IS NULL) = (decided_at IS NULL)", name="decision"),
    sa.Index("tool_calls_message_idx", "session_id", "message_id"),
    sa.Index("tool_calls_id_idx", "id"),
    sa.Index("tool_calls_inbox_idx", "tenant_id", "id"),
    sa.Index("tool_calls_user_inbox_idx", "tenant_id", "user_id", "id"),
    sa.Index("tool_calls_agent_inbox_idx", "tenant_id", "agent_id", "id"),
    sa.Index("tool_calls_name_inbox_idx", "tenant_id", "tool_name", "id"),
    sa.Index("tool_calls_status_inbox_idx", "tenant_id", "status", "id"),
    # Most calls are done; the few that wait for somebody are found among millions by indexes of their own.
    sa.Index("tool_calls_pending_idx", "tenant_id", "id", postgresql_where=sa.text("status = 'pending'")),
    sa.Index("tool_calls_user_pending_idx", "tenant_id", "user_id", "id",
             postgresql_where=sa.text("status = 'pending'")),
    sa.Index("tool_calls_late_idx", "expires_at",
             postgresql_where=sa.text("status = 'pending' AND expires_at IS NOT NULL")),
    sa.Index("tool_calls_tenant_late_idx", "tenant_id", "expires_at",
             postgresql_where=sa.text("status = 'pending' AND expires_at IS NOT NULL")),
)  # fmt: skip

attachments = sa.Table(
    "attachments",
    METADATA,
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("session_id", Id, primary_key=True),
    sa.Column("id", Id, primary_key=True),
    sa.Column("message_id", Id),
    sa.Column("filename", sa.Text, nullable=False),
    sa.Column("content_type", sa.Text, nullable=False),
    sa.Column("declared_content_type", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.LargeBinary, nullable=False),
    sa.Column("attachment_type", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("error", sa.Text),
    sa.Column("properties", pg.JSON, nullable=False),
    sa.Column("metadata", pg.JSON, nullable=False),
    # What came out of the inspection, as blobs like the file itself.
    sa.Column("text_sha256", sa.LargeBinary),
    sa.Column("thumbnail_sha256", sa.LargeBinary),
    sa.Column("scanned_at", Time),
    sa.Column("uploaded_at", Time, nullable=False),
    sa.Column("processed_at", Time),
    sa.Column("deleted_at", Time),
    # The work: from when on it may be claimed (again), how often it was, and the fencing token of the last claim.
    sa.Column("due_at", Time, nullable=False),
    sa.Column("attempt_count", sa.SmallInteger, nullable=False),
    sa.Column("lease_token", sa.BigInteger, nullable=False),
    sa.CheckConstraint("status IN ('uploaded', 'processing', 'ready', 'failed', 'quarantined')", name="status"),
    sa.CheckConstraint(
        "attachment_type IN ('image', 'document', 'code', 'data', 'other')", name="type"
    ),
    sa.CheckConstraint("(processed_at IS NULL) = (status IN ('uploaded', 'processing'))", name="processed_at"),
    sa.Index("attachments_due_idx", "due_at",
             postgresql_where=sa.text("status IN ('uploaded', 'processing') AND deleted_at IS NULL")),
    # In this order one step of the index leads from a tenant or a session that waits to the next.
    sa.Index("attachments_turn_idx", "tenant_id", "session_id", "due_at",
             postgresql_where=sa.text("status IN ('uploaded', 'processing') AND deleted_at IS NULL")),
)  # fmt: skip

inspection_turns = sa.Table(
    "inspection_turns",
    METADATA,
    # Whose file was claimed when, in the order of the claims, and of which session the tenant's last one was.
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("served_session_id", Id, nullable=False),
    sa.Column("turn", sa.BigInteger, sa.Identity(always=True), nullable=False),
)

blobs = sa.Table(
    "blobs",
    METADATA,
    # Equal content of a tenant is stored once, and gone when nothing refers to it any more.
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("sha256", sa.LargeBinary, primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("reference_count", sa.Integer, nullable=False),
    sa.CheckConstraint("reference_count > 0", name="reference_count"),
)

loose_blobs = sa.Table(
    "loose_blobs",
    METADATA,
    # Objects that no blob refers to: uploads that are still running, or that nobody finished, and what was released.
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("due_at", Time, nullable=False),
    sa.Column("is_doomed", sa.Boolean, nullable=False),
    sa.Index("loose_blobs_due_idx", "due_at"),
)

tenant_storage = sa.Table(
    "tenant_storage",
    METADATA,
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.CheckConstraint("bytes >= 0", name="bytes"),
)

tenant_rows = sa.Table(
    "tenant_rows",
    METADATA,
    # What the rows of a tenant take, as the last samples of the tables say.
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("estimated_at", Time, nullable=False),
)

events = sa.Table(
    "events",
    METADATA,
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("session_id", Id, primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("id", Id, nullable=False),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("occurred_at", Time, nullable=False),
    sa.Column("actor_kind", sa.Text, nullable=False),
    sa.Column("actor_subject", sa.Text, nullable=False),
    sa.Column("request_id", sa.Text),
    sa.Column("data", pg.JSON, nullable=False),
)

outbox = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("session_id", Id, nullable=False),
    sa.Column("event_seq", sa.BigInteger, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("recorded_at", Time, nullable=False),
    # In this order one step of the index leads from a tenant that waits to the next.
    sa.Index("outbox_tenant_idx", "tenant_id", "id"),
    # Rows live for milliseconds: without an early vacuum the relay would step over the dead ones.
    postgresql_with={"autovacuum_vacuum_scale_factor": "0.01", "autovacuum_vacuum_threshold": "1000"},
)

relay_progress = sa.Table(
    "relay_progress",
    METADATA,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("relayed_total", sa.BigInteger, nullable=False),
    sa.Column("relayed_at", Time),
    sa.CheckConstraint("id = 1", name="single_row"),
)

cache_state = sa.Table(
    "cache_state",
    METADATA,
    sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
    sa.Column("secret", sa.LargeBinary, nullable=False),
    sa.Column("sampled_total", sa.BigInteger, nullable=False),
    sa.Column("stale_total", sa.BigInteger, nullable=False),
    sa.CheckConstraint("id = 1", name="single_row"),
)

worker_heartbeats = sa.Table(
    "worker_heartbeats",
    METADATA,
    sa.Column("worker_id", Id, primary_key=True),
    sa.Column("queue", sa.Text, nullable=False),
    sa.Column("started_at", Time, nullable=False),
    sa.Column("seen_at", Time, nullable=False),
    sa.Column("locks", pg.JSON),
)

webhook_endpoints = sa.Table(
    "webhook_endpoints",
    METADATA,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("url", sa.Text, nullable=False),
    sa.Column("event_types", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("description", sa.Text),
    sa.Column("ordering", sa.Text, nullable=False),
    # Sealed (service/seals.py), in base64; versions before stored them as they are, until `holdfast reseal`.
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("old_secret", sa.Text),
    sa.Column("old_secret_expires_at", Time),
    sa.Column("disabled_at", Time),
    sa.Column("disabled_reason", sa.Text),
    sa.Column("failing_since", Time),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("updated_at", Time, nullable=False),
    # Hidden from then on; the row goes when the last of its deliveries is gone.
    sa.Column("deleted_at", Time),
    sa.Column("created_by", sa.Text),
    sa.CheckConstraint("ordering IN ('session', 'none')", name="ordering"),
    sa.CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_why"),
    sa.CheckConstraint("disabled_reason IN ('requested', 'gone', 'failing')", name="disabled_reason"),
    sa.Index("webhook_endpoints_tenant_idx", "tenant_id", "id"),
)

webhook_deliveries = sa.Table(
    "webhook_deliveries",
    METADATA,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("endpoint_id", Id, nullable=False),
    # NULL for a test, which is about no session and brings its own body.
    sa.Column("session_id", Id),
    sa.Column("event_seq", sa.BigInteger),
    sa.Column("event_id", Id, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    sa.Column("test_event", pg.JSON),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("attempt_count", sa.SmallInteger, nullable=False),
    # The work: from when on it may be claimed (again); NULL while an earlier one of its session is pending. A claim is
    # in flight until then, and its token is the fence against whoever held it before.
    sa.Column("due_at", Time),
    sa.Column("is_in_flight", sa.Boolean, nullable=False),
    sa.Column("lease_token", sa.BigInteger, nullable=False),
    sa.Column("response_status", sa.SmallInteger),
    sa.Column("error", sa.Text),
    sa.Column("latency_ms", sa.Integer),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("last_attempt_at", Time),
    sa.Column("finished_at", Time),
    sa.CheckConstraint("status IN ('pending', 'succeeded', 'failed', 'cancelled')", name="status"),
    sa.CheckConstraint("(status = 'pending') = (finished_at IS NULL)", name="finished_at"),
    sa.CheckConstraint("(session_id IS NULL) = (event_seq IS NULL)", name="event"),
    sa.CheckConstraint("(session_id IS NULL) = (test_event IS NOT NULL)", name="test"),
    # In this order it finds a session's deliveries, too, when the session is purged.
    sa.UniqueConstraint("session_id", "endpoint_id", "event_seq", name="webhook_deliveries_event_key"),
    sa.Index("webhook_deliveries_lane_idx", "endpoint_id", "session_id", "event_seq",
             postgresql_where=sa.text("status = 'pending'")),
    sa.Index("webhook_deliveries_due_idx", "endpoint_id", "due_at",
             postgresql_where=sa.text("status = 'pending' AND due_at IS NOT NULL")),
    sa.Index("webhook_deliveries_flight_idx", "endpoint_id", postgresql_where=sa.text("is_in_flight")),
    sa.Index("webhook_deliveries_endpoint_idx", "endpoint_id", "id"),
    sa.Index("webhook_deliveries_status_idx", "endpoint_id", "status", "id"),
    sa.Index("webhook_deliveries_finished_idx", "finished_at", postgresql_where=sa.text("finished_at IS NOT NULL")),
)  # fmt: skip

api_keys = sa.Table(
    "api_keys",
    METADATA,
    sa.Column("id", Id, primary_key=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("user_id", sa.Text),
    sa.Column("scopes", pg.ARRAY(sa.Text), nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False, unique=True),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("created_at", Time, nullable=False),
    sa.Column("expires_at", Time),
    sa.Column("revoked_at", Time),
    # Made before `sessions:act` was a scope: a service's `sessions:write` holds it, too. What new code makes does not.
    sa.Column("predates_act", sa.Boolean, nullable=False, server_default=sa.text("true")),
    # NULL: made, or revoked, before this was kept.
    sa.Column("created_by", sa.Text),
    sa.Column("revoked_by", sa.Text),
    # Late by some minutes, and written at most once in five.
    sa.Column("last_used_at", Time),
    sa.Index("api_keys_tenant_idx", "tenant_id", "created_at", "id"),
)

idempotency_keys = sa.Table(
    "idempotency_keys",
    METADATA,
    # SHA-256 over tenant, caller, route and key: one narrow index instead of five wide columns.
    sa.Column("id", sa.LargeBinary, primary_key=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    sa.Column("session_id", Id),
    sa.Column("message_ids", pg.ARRAY(Id)),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),
    sa.Column("status", sa.SmallInteger),
    sa.Column("headers", pg.JSONB),
    # Sealed (service/seals.py); versions before only with the caller's own key, until `holdfast reseal`.
    sa.Column("body", sa.LargeBinary),
    sa.Column("created_at", Time, nullable=False),
    sa.Index("idempotency_keys_created_idx", "created_at"),
    sa.Index("idempotency_keys_session_idx", "session_id", postgresql_where=sa.text("session_id IS NOT NULL")),
)

event_positions = sa.Table(
    "event_positions",
    METADATA,
    # The order of events across sessions; a user's own are found by an index of their own.
    sa.Column("tenant_id", sa.Text, primary_key=True),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("session_id", Id, nullable=False),
    sa.Column("event_seq", sa.BigInteger, nullable=False),
    sa.Column("user_id", sa.Text, nullable=False),
    sa.Index("event_positions_user_idx", "tenant_id", "user_id", "position"),
    sa.Index("event_positions_session_idx", "session_id"),
)

stream_tickets = sa.Table(
    "stream_tickets",
    METADATA,
    sa.Column("digest", sa.LargeBinary, primary_key=True),
    sa.Column("tenant_id", sa.Text, nullable=False),
    # NULL: the stream across sessions.
    sa.Column("session_id", Id),
    # Whom it was issued to, and what proved that: a key, or a token until it ends (seconds since 1970).
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("caller_kind", sa.Text, nullable=False),
    sa.Column("key_digest", sa.LargeBinary),
    sa.Column("token_ends", sa.Double),
    sa.Column("expires_at", Time, nullable=False),
    sa.Column("issuer", sa.Text),
)
