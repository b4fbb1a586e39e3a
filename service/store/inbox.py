"""The inbox: tool calls across all sessions that a caller may see. The pending ones have a small index of their own."""

from __future__ import annotations

from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.caller import Caller
from service.domain.tool_call import CallStatus, ToolCall
from service.store.engine import Statement, Tx
from service.store.tool_calls import COLUMNS, EFFECTIVE_STATUS, call_of

COUNT_MAX = 10_000
"""Counting stops here: no inbox is read to its ten-thousandth call, and a count must stay cheap."""

FILTERS = {
    "own_user_id": "c.user_id = :own_user_id",
    "user_id": "c.user_id = :user_id",
    "agent_id": "c.agent_id = :agent_id",
    "tool_name": "c.tool_name = :tool_name",
}


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What the inbox is narrowed by; None: not at all."""

    statuses: tuple[CallStatus, ...] = ()
    tool_name: str | None = None
    agent_id: str | None = None
    user_id: str | None = None


async def page(
    tx: Tx, caller: Caller, filters: Filters, *, before_id: UUID | None, limit: int
) -> tuple[list[ToolCall], int]:
    """At most `limit` calls, newest first, and how many match in all (at most `COUNT_MAX`)."""
    parameters: dict[str, Any] = {"tenant_id": caller.tenant_id}
    given = {
        "own_user_id": caller.sees_user,
        "user_id": filters.user_id,
        "agent_id": filters.agent_id,
        "tool_name": filters.tool_name,
    }
    parameters |= {name: value for name, value in given.items() if value is not None}
    shape = tuple(name for name in FILTERS if name in parameters)
    if filters.statuses:
        parameters["statuses"] = list(filters.statuses)
    pending = CallStatus.PENDING
    alone = filters.statuses == (pending,)
    listing, counting = _statements(shape, bool(filters.statuses), alone, before_id is not None)
    count = int(await tx.value(counting, **parameters, count_max=COUNT_MAX))
    if before_id is not None:
        parameters["before_id"] = before_id
    rows = await tx.rows(listing, **parameters, limit=limit)
    return [call_of(row) for row in rows], count


@lru_cache(maxsize=256)
def _statements(
    shape: tuple[str, ...], has_statuses: bool, pending_alone: bool, resumes: bool
) -> tuple[Statement, Statement]:
    conditions = ["c.tenant_id = :tenant_id", *(FILTERS[name] for name in shape)]
    if has_statuses:
        conditions.append(f"{EFFECTIVE_STATUS} = ANY (CAST(:statuses AS text[]))")
    if pending_alone:  # said plainly, so that the partial index of pending calls can serve
        conditions.append("c.status = 'pending'")
    source = "FROM tool_calls c JOIN sessions s ON s.id = c.session_id"
    counting = f"""
        SELECT count(*) FROM (SELECT {source} WHERE {" AND ".join(conditions)} LIMIT :count_max) counted"""  # noqa: S608
    if resumes:
        conditions.append("c.id < CAST(:before_id AS uuid)")
    listing = f"""
        SELECT {COLUMNS} {source} WHERE {" AND ".join(conditions)} ORDER BY c.id DESC LIMIT :limit"""
    whole = sa.Integer
    return (
        Statement(sa.text(listing).bindparams(sa.bindparam("limit", type_=whole))),
        Statement(sa.text(counting).bindparams(sa.bindparam("count_max", type_=whole))),
    )
