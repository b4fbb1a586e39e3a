"""Tool calls in PostgreSQL: add, read, list, change. Every change holds the session's lock."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from service.domain.caller import Caller
from service.domain.tool_call import CallStatus, ToolCall
from service.store.engine import Statement, Tx
from service.store.page_bytes import PageRows, fits, fitting, so_far
from service.store.session_rows import VISIBLE_SESSION
from service.store.tool_call_rows import (
    COLUMNS,
    EFFECTIVE_STATUS,
    STATUSES,
    STORED,
    WEIGHT,
    call_of,
)

ADD = Statement(
    sa.text("""
    INSERT INTO tool_calls (
        tenant_id, user_id, agent_id, session_id, message_id, id, provider_call_id, tool_name, arguments,
        requires_approval, status, decided_by, decided_at, reason, expires_at, created_at, version, size)
    SELECT s.tenant_id, s.user_id, s.agent_id, s.id, :message_id, n.id, n.provider_call_id, n.tool_name, n.arguments,
           n.requires_approval, n.status, n.decided_by, n.decided_at, n.reason, n.expires_at, :moment, 1,
           n.size
    FROM sessions s, unnest(
        CAST(:ids AS uuid[]), CAST(:provider_call_ids AS text[]), CAST(:tool_names AS text[]),
        CAST(:arguments AS json[]), CAST(:requires_approval AS boolean[]), CAST(:statuses AS text[]),
        CAST(:decided_by AS text[]), CAST(:decided_at AS timestamptz[]), CAST(:reasons AS text[]),
        CAST(:expires_at AS timestamptz[]), CAST(:sizes AS integer[])
    ) AS n (id, provider_call_id, tool_name, arguments, requires_approval, status, decided_by, decided_at, reason,
            expires_at, size)
    WHERE s.id = :session_id
    """)
)

GET = Statement(
    sa.text(f"""
    SELECT s.last_event_seq, {COLUMNS}
    FROM sessions s LEFT JOIN tool_calls c ON c.session_id = s.id AND c.id = :call_id
    WHERE {VISIBLE_SESSION}
    """)  # noqa: S608 - built from constants of this module alone
)

GET_STORED = Statement(
    sa.text(f"""
    SELECT {STORED}, statement_timestamp() AS now FROM tool_calls c
    WHERE c.session_id = :session_id AND c.id = :call_id
    """)  # noqa: S608 - as above
)

OF_PAGE = Statement(
    sa.text(f"""
    SELECT called.* FROM (
        SELECT called.*, {so_far("called.weight", "called.place, called.id")} AS so_far FROM (
            SELECT {COLUMNS}, {WEIGHT}, array_position(CAST(:message_ids AS uuid[]), c.message_id) AS place
            FROM tool_calls c JOIN sessions s ON s.id = c.session_id
            WHERE c.session_id = :session_id AND c.message_id = ANY (CAST(:message_ids AS uuid[]))
        ) called
    ) called
    WHERE called.place = 1 OR {fits("called")}
    ORDER BY called.place, called.id
    """).bindparams(sa.bindparam("message_ids", type_=pg.ARRAY(pg.UUID(as_uuid=True))))  # noqa: S608 - as above
)
"""All calls of the first message, and of the others as many as leave room on a page."""

OF_MESSAGES = Statement(
    sa.text(f"""
    SELECT {COLUMNS}
    FROM tool_calls c JOIN sessions s ON s.id = c.session_id
    WHERE c.session_id = :session_id AND c.message_id = ANY (CAST(:message_ids AS uuid[]))
    ORDER BY c.id
    """).bindparams(sa.bindparam("message_ids", type_=pg.ARRAY(pg.UUID(as_uuid=True))))  # noqa: S608 - as above
)

FIND_FOR_RESULT = Statement(
    sa.text(f"""
    SELECT {STORED} FROM tool_calls c
    WHERE c.session_id = :session_id AND (c.id = CAST(:call_id AS uuid) OR c.provider_call_id = :provider_call_id)
    ORDER BY c.id = CAST(:call_id AS uuid) DESC NULLS LAST, c.status IN ('approved', 'running') DESC, c.id DESC
    LIMIT 1
    """)  # noqa: S608 - as above
)
"""The call that a result belongs to. Some providers use the same ids again in one conversation: the call that waits
for a result comes first, then the newest."""

PAGE_OF_SESSION = Statement(
    sa.text(f"""
    SELECT * FROM (
        SELECT called.*, {so_far("called.weight", "called.id")} AS so_far FROM sessions s
        LEFT JOIN LATERAL (
            SELECT {COLUMNS}, {WEIGHT} FROM tool_calls c
            WHERE c.session_id = s.id AND c.id > CAST(:after_id AS uuid)
              AND (CAST(:statuses AS text[]) IS NULL OR {EFFECTIVE_STATUS} = ANY (CAST(:statuses AS text[])))
              AND (CAST(:tool_name AS text) IS NULL OR c.tool_name = CAST(:tool_name AS text))
            ORDER BY c.id LIMIT :limit
        ) called ON true
        WHERE {VISIBLE_SESSION}
    ) found WHERE {fits("found")} ORDER BY found.id
    """).bindparams(sa.bindparam("limit", type_=sa.Integer))  # noqa: S608 - as above
)

STATES = Statement(
    sa.text(f"""
    SELECT c.id, {EFFECTIVE_STATUS} AS status FROM tool_calls c JOIN sessions s ON s.id = c.session_id
    WHERE c.id = ANY (CAST(:ids AS uuid[]))
    """).bindparams(sa.bindparam("ids", type_=pg.ARRAY(pg.UUID(as_uuid=True))))  # noqa: S608 - as above
)

ERASE_CONTENT = Statement(
    sa.text("""
    UPDATE tool_calls SET
        arguments = '{}', original_arguments = NULL, result = NULL, error = NULL, reason = NULL, size = NULL
    WHERE session_id = :session_id AND message_id = :message_id
    """)
)

ERASE_RESULT = Statement(
    sa.text("UPDATE tool_calls SET result = NULL, size = NULL WHERE session_id = :session_id AND id = :call_id")
)

SAVE = Statement(
    sa.text("""
    UPDATE tool_calls SET
        status = :status, arguments = CAST(:arguments AS json), original_arguments = CAST(:original_arguments AS json),
        decided_by = :decided_by, decided_at = :decided_at, reason = :reason, started_at = :started_at,
        executed_at = :executed_at, result = CAST(:result AS json), error = :error, version = :version, size = :size
    WHERE session_id = :session_id AND id = :id
    """)
)

BYTES_OF_MESSAGE = Statement(
    sa.text(f"""
    SELECT coalesce(sum(called.weight), 0) AS bytes FROM (
        SELECT {WEIGHT} FROM tool_calls c WHERE c.session_id = :session_id AND c.message_id = :message_id
    ) called
    """)  # noqa: S608 - as above
)


async def add(tx: Tx, session_id: UUID, message_id: UUID, calls: list[ToolCall], moment: datetime) -> None:
    """Store the calls that a message brings."""
    await tx.rows(
        ADD,
        session_id=session_id,
        message_id=message_id,
        moment=moment,
        ids=[call.id for call in calls],
        provider_call_ids=[call.provider_call_id for call in calls],
        tool_names=[call.tool_name for call in calls],
        arguments=[_text(call.arguments) for call in calls],
        requires_approval=[call.requires_approval for call in calls],
        statuses=[call.status for call in calls],
        decided_by=[call.decided_by for call in calls],
        decided_at=[call.decided_at for call in calls],
        reasons=[call.reason for call in calls],
        expires_at=[call.expires_at for call in calls],
        sizes=[size_of(call) for call in calls],
    )


async def get(tx: Tx, caller: Caller, session_id: UUID, call_id: UUID) -> tuple[int | None, ToolCall | None]:
    """The number of the session's last event (None: the caller may see no such session), and the call as it is now if

    it is there.
    """
    row = await tx.row(
        GET, session_id=session_id, tenant_id=caller.tenant_id, user_id=caller.sees_user, call_id=call_id
    )
    if row is None:
        return None, None
    return row["last_event_seq"], None if row["id"] is None else call_of(row)


async def get_stored(tx: Tx, session_id: UUID, call_id: UUID) -> tuple[ToolCall, datetime] | None:
    """The call as it stands in the table, under its session's lock, and when it was read: after the wait for it."""
    row = await tx.row(GET_STORED, session_id=session_id, call_id=call_id)
    return None if row is None else (call_of(row), row["now"])


async def find_for_result(tx: Tx, session_id: UUID, name: str, call_id: UUID | None) -> ToolCall | None:
    """The call that a tool message names, by our id or by its provider's."""
    row = await tx.row(FIND_FOR_RESULT, session_id=session_id, call_id=call_id, provider_call_id=name)
    return None if row is None else call_of(row)


async def of_messages(tx: Tx, session_id: UUID, message_ids: list[UUID]) -> dict[UUID, list[ToolCall]]:
    """The calls that each of these messages brought, in their order."""
    found: dict[UUID, list[ToolCall]] = {}
    for row in await tx.rows(OF_MESSAGES, session_id=session_id, message_ids=message_ids):
        found.setdefault(row["message_id"], []).append(call_of(row))
    return found


async def of_page(tx: Tx, session_id: UUID, message_ids: list[UUID]) -> dict[UUID, list[ToolCall]]:
    """The same for the messages of a page, in its order: until there are more than fit on it."""
    found: dict[UUID, list[ToolCall]] = {}
    for row in await tx.rows(OF_PAGE, session_id=session_id, message_ids=message_ids):
        found.setdefault(row["message_id"], []).append(call_of(row))
    return found


async def page_of_session(
    tx: Tx,
    caller: Caller,
    session_id: UUID,
    *,
    statuses: list[CallStatus] | None,
    tool_name: str | None,
    after_id: UUID,
    limit: int,
) -> PageRows[ToolCall] | None:
    """At most `limit` calls of a session behind `after_id`, oldest first; None: the caller may see no such session."""
    rows = await tx.rows(
        PAGE_OF_SESSION,
        session_id=session_id,
        tenant_id=caller.tenant_id,
        user_id=caller.sees_user,
        statuses=statuses,
        tool_name=tool_name,
        after_id=after_id,
        limit=limit,
    )
    if not rows:
        return None
    kept = fitting([row for row in rows if row["id"] is not None])
    return PageRows(map(call_of, kept), is_cut=kept.is_cut)


async def states(tx: Tx, ids: list[UUID]) -> dict[UUID, CallStatus]:
    """The statuses of these calls now, in one statement for all who wait."""
    return {row["id"]: STATUSES[row["status"]] for row in await tx.rows(STATES, ids=ids)}


async def save(tx: Tx, call: ToolCall) -> None:
    """Store what a call has become, under its session's lock."""
    await tx.rows(
        SAVE,
        session_id=call.session_id,
        id=call.id,
        status=call.status,
        arguments=_text(call.arguments),
        original_arguments=_text(call.original_arguments),
        decided_by=call.decided_by,
        decided_at=call.decided_at,
        reason=call.reason,
        started_at=call.started_at,
        executed_at=call.executed_at,
        result=_text(call.result),
        error=call.error,
        version=call.version,
        size=size_of(call),
    )


async def bytes_of_message(tx: Tx, session_id: UUID, message_id: UUID) -> int:
    """What the calls of a message hold together."""
    return int(await tx.value(BYTES_OF_MESSAGE, session_id=session_id, message_id=message_id))


async def erase_content(tx: Tx, session_id: UUID, message_id: UUID) -> None:
    """Take the arguments and results of a deleted message's calls away."""
    await tx.rows(ERASE_CONTENT, session_id=session_id, message_id=message_id)


async def erase_result(tx: Tx, session_id: UUID, call_id: UUID) -> None:
    """Take a call's result away: the message that brought it is deleted."""
    await tx.rows(ERASE_RESULT, session_id=session_id, call_id=call_id)


def size_of(call: ToolCall) -> int:
    """The bytes of what callers gave to a call."""
    texts = (call.error, call.reason)
    return (
        len(call.arguments)
        + len(call.original_arguments or b"")
        + len(call.result or b"")
        + sum(len(text.encode()) for text in texts if text is not None)
    )


def _text(raw: msgspec.Raw | None) -> Any:
    return None if raw is None else bytes(raw).decode()
