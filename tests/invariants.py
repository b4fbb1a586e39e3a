"""What holds in the database at every moment, whatever happened before: checked after commands, storms and crashes.

`assert await violations(connection) == []`, with any asyncpg connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any
from uuid import UUID

import asyncpg

RULES = {
    "messages are numbered 1, 2, 3 … up to last_message_seq": """
        SELECT s.id FROM sessions s LEFT JOIN messages m ON m.session_id = s.id
        WHERE $1::uuid IS NULL OR s.id = $1
        GROUP BY s.id, s.last_message_seq
        HAVING (count(m.seq), coalesce(min(m.seq), 1), coalesce(max(m.seq), 0))
               <> (s.last_message_seq, 1, s.last_message_seq)
    """,
    "message_count counts the messages that are not deleted": """
        SELECT s.id FROM sessions s LEFT JOIN messages m ON m.session_id = s.id AND m.deleted_at IS NULL
        WHERE $1::uuid IS NULL OR s.id = $1
        GROUP BY s.id, s.message_count HAVING count(m.seq) <> s.message_count
    """,
    "events are numbered 1, 2, 3 … up to last_event_seq": """
        SELECT s.id FROM sessions s LEFT JOIN events e ON e.session_id = s.id
        WHERE $1::uuid IS NULL OR s.id = $1
        GROUP BY s.id, s.last_event_seq
        HAVING (count(e.seq), coalesce(min(e.seq), 1), coalesce(max(e.seq), 0))
               <> (s.last_event_seq, 1, s.last_event_seq)
    """,
    "each message has one message.created, in the order of the messages": """
        SELECT coalesce(m.session_id, e.session_id) AS id
        FROM (SELECT session_id, id, seq, row_number() OVER (PARTITION BY session_id ORDER BY seq) AS place
              FROM messages) m
        FULL JOIN (SELECT session_id, (data ->> 'message_id')::uuid AS message_id,
                          (data ->> 'message_seq')::bigint AS message_seq,
                          row_number() OVER (PARTITION BY session_id ORDER BY seq) AS place
                   FROM events WHERE type = 'message.created') e
          ON e.session_id = m.session_id AND e.message_id = m.id AND e.message_seq = m.seq AND e.place = m.place
        WHERE (m.id IS NULL OR e.message_id IS NULL) AND ($1::uuid IS NULL OR coalesce(m.session_id, e.session_id) = $1)
    """,
    "each tombstone has one message.deleted, but what was deleted after the end": """
        SELECT coalesce(m.session_id, e.session_id) AS id
        FROM (SELECT m.session_id, m.id, coalesce(m.deleted_at >= s.ended_at, false) AS is_silent
              FROM messages m JOIN sessions s ON s.id = m.session_id WHERE m.deleted_at IS NOT NULL) m
        FULL JOIN (SELECT session_id, (data ->> 'message_id')::uuid AS message_id, count(*) AS times
                   FROM events WHERE type = 'message.deleted' GROUP BY 1, 2) e
          ON e.session_id = m.session_id AND e.message_id = m.id AND e.times = 1
        WHERE (m.id IS NULL OR e.message_id IS NULL AND NOT m.is_silent)
          AND ($1::uuid IS NULL OR coalesce(m.session_id, e.session_id) = $1)
    """,
    "the times of messages never go backwards": """
        SELECT session_id AS id FROM (
            SELECT session_id, created_at, lag(created_at) OVER (PARTITION BY session_id ORDER BY seq) AS before
            FROM messages WHERE $1::uuid IS NULL OR session_id = $1
        ) told WHERE created_at < before
    """,
    "the times of events never go backwards": """
        SELECT session_id AS id FROM (
            SELECT session_id, occurred_at, lag(occurred_at) OVER (PARTITION BY session_id ORDER BY seq) AS before
            FROM events WHERE $1::uuid IS NULL OR session_id = $1
        ) told WHERE occurred_at < before
    """,
    "what waits in the outbox is an event, once": """
        SELECT o.session_id AS id FROM outbox o
        LEFT JOIN events e ON e.session_id = o.session_id AND e.seq = o.event_seq AND e.type = o.event_type
             AND e.tenant_id = o.tenant_id AND e.occurred_at = o.recorded_at
        WHERE $1::uuid IS NULL OR o.session_id = $1
        GROUP BY o.session_id, o.event_seq HAVING count(*) <> 1 OR count(e.seq) <> 1
    """,
    "the outbox holds a session's events in their order": """
        SELECT session_id AS id FROM (
            SELECT session_id, event_seq, lag(event_seq) OVER (PARTITION BY session_id ORDER BY id) AS before
            FROM outbox WHERE $1::uuid IS NULL OR session_id = $1
        ) queued WHERE event_seq < before
    """,
    "a child has its session, and its session's tenant": """
        SELECT child.session_id AS id
        FROM (SELECT session_id, tenant_id FROM messages UNION ALL SELECT session_id, tenant_id FROM events
              UNION ALL SELECT session_id, tenant_id FROM tool_calls
              UNION ALL SELECT session_id, tenant_id FROM attachments
              UNION ALL SELECT session_id, tenant_id FROM outbox) child
        LEFT JOIN sessions s ON s.id = child.session_id AND s.tenant_id = child.tenant_id
        WHERE s.id IS NULL AND ($1::uuid IS NULL OR child.session_id = $1)
    """,
    "pending_tool_call_count counts the calls that wait for a decision": """
        SELECT s.id FROM sessions s LEFT JOIN tool_calls c ON c.session_id = s.id AND c.status = 'pending'
        WHERE $1::uuid IS NULL OR s.id = $1
        GROUP BY s.id, s.pending_tool_call_count HAVING count(c.id) <> s.pending_tool_call_count
    """,
    "an ended session has no open tool call": """
        SELECT s.id FROM sessions s JOIN tool_calls c ON c.session_id = s.id
        WHERE s.status = 'ended' AND c.status IN ('pending', 'approved', 'running') AND ($1::uuid IS NULL OR s.id = $1)
    """,
    "the last event of a tool call tells its status and who decided": """
        SELECT coalesce(c.session_id, e.session_id) AS id
        FROM (SELECT session_id, id, status, decided_by FROM tool_calls) c
        FULL JOIN (SELECT DISTINCT ON (session_id, data ->> 'tool_call_id')
                          session_id, (data ->> 'tool_call_id')::uuid AS call_id, data ->> 'status' AS status,
                          data ->> 'decided_by' AS decided_by
                   FROM events WHERE type LIKE 'tool\\_call.%'
                   ORDER BY session_id, data ->> 'tool_call_id', seq DESC) e
          ON e.session_id = c.session_id AND e.call_id = c.id AND e.status = c.status
             AND e.decided_by IS NOT DISTINCT FROM c.decided_by
        WHERE (c.id IS NULL OR e.call_id IS NULL) AND ($1::uuid IS NULL OR coalesce(c.session_id, e.session_id) = $1)
    """,
    "a tool call is asked for once, decided once, ended once": """
        SELECT session_id AS id FROM (
            SELECT session_id, data ->> 'tool_call_id' AS call_id,
                   count(*) FILTER (WHERE type = 'tool_call.requested') AS asked,
                   count(*) FILTER (WHERE type IN ('tool_call.approved', 'tool_call.rejected', 'tool_call.expired'))
                       AS decided,
                   count(*) FILTER (WHERE type IN ('tool_call.rejected', 'tool_call.expired', 'tool_call.cancelled',
                                                   'tool_call.completed', 'tool_call.failed')) AS ended
            FROM events WHERE type LIKE 'tool\\_call.%' AND ($1::uuid IS NULL OR session_id = $1) GROUP BY 1, 2
        ) told WHERE asked <> 1 OR decided > 1 OR ended > 1
    """,
    "a message tells how many tool calls it brought": """
        SELECT m.session_id AS id FROM messages m
        LEFT JOIN tool_calls c ON c.session_id = m.session_id AND c.message_id = m.id
        WHERE $1::uuid IS NULL OR m.session_id = $1
        GROUP BY m.session_id, m.id, m.tool_call_count HAVING count(c.id) <> m.tool_call_count
    """,
    "attachment_count counts the files that are not deleted": """
        SELECT s.id FROM sessions s LEFT JOIN attachments a ON a.session_id = s.id AND a.deleted_at IS NULL
        WHERE $1::uuid IS NULL OR s.id = $1
        GROUP BY s.id, s.attachment_count HAVING count(a.id) <> s.attachment_count
    """,
    "the events of a file begin with attachment.uploaded, and the last one tells what it is": """
        SELECT coalesce(a.session_id, e.session_id) AS id
        FROM (SELECT a.session_id, a.id, a.deleted_at, a.status, s.status = 'ended' AS is_over,
                     coalesce(a.deleted_at >= s.ended_at, false) AS is_silent
              FROM attachments a JOIN sessions s ON s.id = a.session_id) a
        FULL JOIN (SELECT session_id, (data ->> 'attachment_id')::uuid AS attachment_id,
                          (array_agg(type ORDER BY seq))[1] AS first,
                          (array_agg(type ORDER BY seq DESC))[1] AS last,
                          (array_agg(data ->> 'status' ORDER BY seq DESC))[1] AS status
                   FROM events WHERE type LIKE 'attachment.%' GROUP BY 1, 2) e
          ON e.session_id = a.session_id AND e.attachment_id = a.id AND e.first = 'attachment.uploaded'
             AND CASE WHEN a.is_silent THEN true
                      WHEN a.deleted_at IS NOT NULL THEN e.last = 'attachment.deleted'
                      WHEN a.is_over THEN true
                      WHEN a.status IN ('uploaded', 'processing') THEN e.last = 'attachment.uploaded'
                      ELSE e.status = a.status END
        WHERE (a.id IS NULL OR e.attachment_id IS NULL)
          AND ($1::uuid IS NULL OR coalesce(a.session_id, e.session_id) = $1)
    """,
    "a message names files of its session only": """
        SELECT m.session_id AS id FROM messages m CROSS JOIN unnest(m.attachment_ids) AS named (id)
        LEFT JOIN attachments a ON a.session_id = m.session_id AND a.id = named.id
        WHERE a.id IS NULL AND ($1::uuid IS NULL OR m.session_id = $1)
    """,
}
"""Each rule, and the query that finds the sessions that break it."""

RULES_OF_STORAGE = {
    "a blob is counted once for each reference of a file that is not deleted": """
        SELECT coalesce(b.tenant_id, r.tenant_id) AS id
        FROM blobs b
        FULL JOIN (SELECT a.tenant_id, d.sha256, count(*) AS times
                   FROM attachments a, unnest(ARRAY[a.sha256, a.text_sha256, a.thumbnail_sha256]) AS d (sha256)
                   WHERE a.deleted_at IS NULL AND d.sha256 IS NOT NULL GROUP BY 1, 2) r
          ON r.tenant_id = b.tenant_id AND r.sha256 = b.sha256 AND r.times = b.reference_count
        WHERE b.tenant_id IS NULL OR r.tenant_id IS NULL
    """,
    "a tenant's storage is the sum of its blobs": """
        SELECT coalesce(t.tenant_id, b.tenant_id) AS id
        FROM tenant_storage t
        FULL JOIN (SELECT tenant_id, sum(size) AS bytes FROM blobs GROUP BY 1) b ON b.tenant_id = t.tenant_id
        WHERE coalesce(t.bytes, 0) <> coalesce(b.bytes, 0)
    """,
    "no object is both kept and loose": """
        SELECT b.tenant_id AS id FROM blobs b JOIN loose_blobs l ON l.key = b.key
    """,
}
"""Each rule of what tenants share between sessions, and the query that finds the tenants where it is broken."""

OPEN = ("created", "active", "suspended")
CALL_STEPS = ("approved", "rejected", "expired", "cancelled", "started", "completed", "failed")
STEPS = {
    ("nothing", "session.created"): "created",
    ("created", "session.activated"): "active",
    ("suspended", "session.activated"): "active",
    ("active", "session.suspended"): "suspended",
    ("suspended", "session.resumed"): "active",
    ("active", "message.created"): "active",
    ("active", "tool_call.requested"): "active",
    **{(status, "attachment.uploaded"): status for status in OPEN},
    **{(status, f"attachment.{step}"): status for status in OPEN for step in ("processed", "failed", "deleted")},
    **{(status, f"tool_call.{step}"): status for status in ("active", "suspended") for step in CALL_STEPS},
    **{(status, "session.updated"): status for status in OPEN},
    **{(status, "message.deleted"): status for status in OPEN},
    **{(status, "session.ended"): "ended, requested" for status in OPEN},
    **{(status, "session.expired"): "ended, expired" for status in OPEN},
}
"""The life of a session as its events tell it; what is missing here cannot happen, least of all after the end."""

SYSTEM_PROMPT_PLACE = 1
"""Only the second event may bring a message to a session that is not active: the system prompt it was opened with."""

STORIES = """
    SELECT s.id, s.status, s.end_reason, e.type
    FROM sessions s JOIN events e ON e.session_id = s.id
    WHERE $1::uuid IS NULL OR s.id = $1
    ORDER BY s.id, e.seq
"""


async def violations(connection: asyncpg.Connection[Any], session_id: UUID | None = None) -> list[str]:
    """Every rule that a session breaks, with its id; of all sessions, or of one."""
    found = []
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        for rule, breaking in RULES.items():
            rows = await connection.fetch(breaking, session_id)
            found += [f"not so: {rule}: {row['id']}" for row in rows]
        for rule, breaking in RULES_OF_STORAGE.items():
            found += [f"not so: {rule}: {row['id']}" for row in await connection.fetch(breaking)]
        found += list(_told_otherwise(await connection.fetch(STORIES, session_id)))
    return found


def _told_otherwise(rows: list[asyncpg.Record]) -> Iterator[str]:
    for (session_id, status, end_reason), story in groupby(rows, key=lambda row: (row["id"], row[1], row[2])):
        types = [row["type"] for row in story]
        stands = status if end_reason is None else f"{status}, {end_reason}"
        told = folded(types)
        if told != stands:
            yield f"not so: the events tell the status: {session_id} is {stands}, told: {told} by {types}"


def folded(types: list[str]) -> str:
    """The status that a story leads to, or the step that cannot happen."""
    stands = "nothing"
    for place, type_ in enumerate(types):
        if place == SYSTEM_PROMPT_PLACE and type_ == "message.created":
            continue
        step = STEPS.get((stands, type_))
        if step is None:
            return f"impossible: {type_} while {stands}"
        stands = step
    return stands
