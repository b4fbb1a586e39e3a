"""Pages of messages, with their tool calls and files: what is too much for a page is not read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.attachment import Attachment
from service.domain.caller import Caller
from service.domain.message import Message, Role
from service.domain.tool_call import ToolCall
from service.store import attachments, tool_calls
from service.store.engine import Row, Statement, Tx
from service.store.messages import COLUMNS, message_of
from service.store.page_bytes import PAGE_BYTES_MAX, ROW_BYTES, SMALL_BYTES, PageRows, fits, fitting, so_far
from service.store.session_rows import VISIBLE_SESSION

FILES_AT_ONCE = 400
"""Files that are read by one statement. A file has 20 KiB at the most, so that these have a page's worth together."""

WEIGHT = f"""coalesce(messages.size, octet_length(CAST(messages.content AS text))
            + octet_length(CAST(messages.metadata AS text))
            + coalesce(octet_length(CAST(messages.usage AS text)), 0), 0) + {ROW_BYTES} AS weight"""


SMALL_COLUMNS = f"""{COLUMNS.replace("m.content", f"CASE WHEN m.size <= {SMALL_BYTES} THEN m.content END AS content")},
    coalesce(m.size, 0) + {ROW_BYTES} AS weight"""
"""Without the content of what is large, or has no size: to add up the sizes costs a page of small ones a twentieth."""


WANTED = """messages.session_id = s.id AND messages.seq > :after_seq AND messages.seq < :before_seq
    AND (CAST(:role AS text) IS NULL OR messages.role = CAST(:role AS text))
    AND (CAST(:include_deleted AS boolean) OR messages.deleted_at IS NULL)"""
"""The messages of a session `s` that a page asks for."""


def _small_page_statement(order: str) -> Statement:
    return Statement(
        sa.text(f"""
    SELECT {SMALL_COLUMNS}
    FROM sessions s
    LEFT JOIN LATERAL (
        SELECT * FROM messages
        WHERE {WANTED}
        ORDER BY messages.seq {order}
        LIMIT :limit
    ) m ON true
    WHERE {VISIBLE_SESSION}
    ORDER BY m.seq {order}
    """)  # noqa: S608 - built from constants
    )


def _page_statement(order: str) -> Statement:
    return Statement(
        sa.text(f"""
    SELECT {COLUMNS}, m.weight, m.so_far FROM (
        SELECT m.*, {so_far("m.weight", f"m.seq {order}")} AS so_far
        FROM sessions s
        LEFT JOIN LATERAL (
            SELECT *, {WEIGHT} FROM messages
            WHERE {WANTED}
            ORDER BY messages.seq {order}
            LIMIT :limit
        ) m ON true
        WHERE {VISIBLE_SESSION}
    ) m
    WHERE {fits("m")}
    ORDER BY m.seq {order}
    """)  # noqa: S608 - built from constants
    )


SMALL_PAGES = {order: _small_page_statement(order) for order in ("asc", "desc")}
PAGES = {order: _page_statement(order) for order in ("asc", "desc")}


async def page(
    tx: Tx,
    caller: Caller,
    session_id: UUID,
    *,
    order: str,
    after_seq: int,
    before_seq: int,
    role: Role | None,
    include_deleted: bool,
    limit: int,
) -> PageRows[Message] | None:
    """At most `limit` messages between the two numbers (both excluded), read by primary key in `order`.

    None when the caller may see no such session.
    """
    wanted = {
        "session_id": session_id,
        "tenant_id": caller.tenant_id,
        "user_id": caller.sees_user,
        "after_seq": after_seq,
        "before_seq": before_seq,
        "role": role,
        "include_deleted": include_deleted,
        "limit": limit,
    }
    rows = await small_or_fitting(tx, SMALL_PAGES[order], PAGES[order], wanted)
    if not rows:
        return None
    found = PageRows([row for row in rows if row["id"] is not None], is_cut=rows.is_cut)
    return await whole(tx, session_id, found)


async def small_or_fitting(tx: Tx, small: Statement, sized: Statement, wanted: dict[str, Any]) -> PageRows[Row]:
    """The rows of a page: all, where all are small; else, read again, those that fit on it."""
    rows = await tx.rows(small, **wanted)
    if any(row["content"] is None and row["deleted_at"] is None and row["id"] is not None for row in rows):
        return fitting(await tx.rows(sized, **wanted))
    return PageRows(rows)


async def whole(tx: Tx, session_id: UUID, kept: PageRows[Row]) -> PageRows[Message]:
    """The messages that the rows of a page are, with their calls and files, as many of them as fit on it.

    The rows begin with `COLUMNS` and have a `weight`.
    """
    bringers = [row["id"] for row in kept if row["tool_call_count"]]
    calls = await tool_calls.of_page(tx, session_id, bringers) if bringers else {}
    files = await _files(tx, session_id, [row["attachment_ids"] for row in kept if row["attachment_ids"]])
    if not calls and not files:
        return PageRows(map(message_of, kept), is_cut=kept.is_cut)
    return _until_full(kept, calls, files)


async def _files(tx: Tx, session_id: UUID, references: Sequence[list[UUID]]) -> dict[UUID, Attachment]:
    """The files that messages refer to, in the order of the messages, until there are more than fit on a page."""
    found: dict[UUID, Attachment] = {}
    wanted = list(dict.fromkeys(id_ for ids in references for id_ in ids))
    size = 0
    for start in range(0, len(wanted), FILES_AT_ONCE):
        if size > PAGE_BYTES_MAX:
            break
        read = await attachments.by_ids(tx, session_id, wanted[start : start + FILES_AT_ONCE])
        size += sum(map(_bytes_of_file, read.values()))
        found |= read
    return found


def _until_full(
    rows: PageRows[Row], calls: dict[UUID, list[ToolCall]], files: dict[UUID, Attachment]
) -> PageRows[Message]:
    """The messages up to the first one that does not fit, or whose calls and files were too many to be read."""
    messages: list[Message] = []
    size = 0
    for row in rows:
        brought = calls.get(row["id"], [])
        named = [files[id_] for id_ in row["attachment_ids"] or () if id_ in files]
        size += row["weight"] + sum(map(_bytes_of_call, brought)) + sum(map(_bytes_of_file, named))
        is_whole = len(brought) == row["tool_call_count"] and len(named) == len(row["attachment_ids"] or ())
        if messages and not (is_whole and size <= PAGE_BYTES_MAX):
            return PageRows(messages, is_cut=True)
        messages.append(msgspec.structs.replace(message_of(row), tool_calls=brought, attachments=named))
    return PageRows(messages, is_cut=rows.is_cut)


def _bytes_of_call(call: ToolCall) -> int:
    return tool_calls.size_of(call) + ROW_BYTES


def _bytes_of_file(file: Attachment) -> int:
    return len(file.properties) + len(file.metadata) + len(file.filename.encode()) + ROW_BYTES
