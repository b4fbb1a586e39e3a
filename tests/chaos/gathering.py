"""Gathers the evidence: from the database, the disk, Valkey's queues and the webhooks' receiver."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import redis
from evidence import (
    Arrival,
    CallRow,
    Delivery,
    EventRow,
    Evidence,
    FileRow,
    MessageRow,
    SessionRow,
)
from history import digest_of
from receiver import Call
from stack import Stack

from service.domain.work import Queue

SESSIONS = """
    SELECT id::text, status, end_reason, version, message_count, attachment_count, pending_tool_call_count,
           last_message_seq, last_event_seq, metadata::text FROM sessions ORDER BY id
"""
MESSAGES = """
    SELECT m.session_id::text, m.seq, m.id::text, m.content #>> '{}', m.deleted_at IS NOT NULL,
           coalesce(m.deleted_at >= s.ended_at, false)
    FROM messages m JOIN sessions s ON s.id = m.session_id ORDER BY 1, 2
"""
EVENTS = "SELECT session_id::text, seq, id::text, type, data::text FROM events ORDER BY 1, 2"
CALLS = "SELECT session_id::text, id::text, status, decided_by FROM tool_calls"
FILES = """
    SELECT a.session_id::text, a.id::text, a.status, encode(a.sha256, 'hex'), a.size, a.deleted_at IS NOT NULL, a.error,
           coalesce(a.deleted_at >= s.ended_at, false)
    FROM attachments a JOIN sessions s ON s.id = a.session_id
"""
BLOBS = "SELECT key, encode(sha256, 'hex') FROM blobs"
LOOSE = "SELECT key FROM loose_blobs"
DELIVERIES = "SELECT event_id::text, session_id::text, event_seq, status FROM webhook_deliveries"

LEFT_OVER = {
    "events in the outbox": "SELECT count(*) FROM outbox",
    "events that were not counted": "SELECT (SELECT count(*) FROM events) - relayed_total FROM relay_progress",
    "files under a claim": "SELECT count(*) FROM attachments WHERE status IN ('uploaded', 'processing') "
    "AND deleted_at IS NULL",
    "deliveries in flight": "SELECT count(*) FROM webhook_deliveries WHERE is_in_flight",
    "deliveries not finished": "SELECT count(*) FROM webhook_deliveries WHERE status = 'pending'",
    "keys without their answers": "SELECT count(*) FROM idempotency_keys WHERE status IS NULL",
    "open transactions": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state LIKE 'idle in transaction%'",
}
"""What must be nought when all is quiet."""

LOG_TROUBLES = ("Traceback (most recent call last)", "graceful shutdown exceeded", '"event":"request.cut"')
"""What a web process logs of a request that broke, or that did not hear of the stop and was cut off."""


def arrival(call: Call, secret: str) -> Arrival:
    """Look at one request of a webhook as it comes in; its signature is only valid for minutes."""
    try:
        event = call.verified_by(secret)
        is_signed = event["id"] == call.id
    except Exception:  # noqa: BLE001 - whatever the library says, it did not verify
        event, is_signed = call.event, False
    return Arrival(
        event=call.id,
        session=event["session_id"],
        seq=event["seq"],
        type=event["type"],
        digest=digest_of(call.body),
        is_signed=is_signed,
        at=call.at,
        data=event["data"],
    )


def gather(stack: Stack, arrivals: list[Arrival], scratch: Path) -> Evidence:
    """Read all that there is; the load has stopped and every part is well."""
    rows = stack.ledger.rows
    found = Evidence(arrivals=list(arrivals))
    found.sessions = [SessionRow(*row[:9], frozenset(json.loads(row[9]))) for row in rows(SESSIONS)]
    found.messages = [MessageRow(*row[:3], digest_of(row[3] or ""), row[4], row[5]) for row in rows(MESSAGES)]
    found.events = [EventRow(*row[:4], json.loads(row[4])) for row in rows(EVENTS)]
    found.calls = [CallRow(*row) for row in rows(CALLS)]
    found.files = [FileRow(*row) for row in rows(FILES)]
    found.deliveries = [Delivery(*row) for row in rows(DELIVERIES)]
    found.stored = {row[0]: row[1] for row in rows(BLOBS)}
    found.loose = {row[0] for row in rows(LOOSE)}
    folder = stack.folder / "files"
    found.found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
    found.left_over = left_over(stack) | {"temporary files": len(list(scratch.iterdir()))}
    found.has_cache = stack.environment.get("HOLDFAST_CACHE") != "off"
    found.broken_rules = stack.ledger.violations()
    return found


def log_troubles(stack: Stack) -> list[str]:
    """What the logs of the web processes tell of requests that were cut off at a stop, or broke without an answer."""
    logs = {web.name: web.log.read_text(errors="replace") for web in stack.webs}
    counts = {(name, said): log.count(said) for name, log in logs.items() for said in LOG_TROUBLES}
    return [f"{name} logged {said!r}, {count} times" for (name, said), count in counts.items() if count]


def left_over(stack: Stack) -> dict[str, int]:
    """What is not nought though all is quiet."""
    counted = {what: int(stack.ledger.value(query)) for what, query in LEFT_OVER.items()}
    with redis.Redis.from_url(stack.environment["REDIS_URL"]) as client:
        counted["jobs in Valkey's queues"] = sum(int(client.zcard(queue.key)) for queue in Queue)
    return counted
