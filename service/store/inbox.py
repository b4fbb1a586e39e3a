"""The inbox: tool calls across all sessions that a caller may see.

A million calls that are done must not slow down the few that wait, nor a filter that hardly anything matches. So the
pending ones have small indexes of their own, every filter has an index in the order of the pages, and calls of other
statuses are taken from the index of each status in turn, whatever the planner thinks of how many there are.
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

import msgspec
import sqlalchemy as sa

from service.domain.caller import Caller
from service.domain.tool_call import OPEN, CallStatus, ToolCall
from service.store.engine import Statement, Tx
from service.store.page_bytes import PageRows, fits, fitting, so_far
from service.store.tool_call_rows import COLUMNS, EFFECTIVE_STATUS, WEIGHT, call_of

COUNT_MAX = 10_000
"""Counting stops here: no inbox is read to its ten-thousandth call. To count a million takes 160 ms, ten thousand 2."""

PLAN_ANEW = Statement(sa.text("SET LOCAL plan_cache_mode = force_custom_plan"))
"""The values decide which index serves: a plan kept for all values reads a million calls for an agent that has none."""

STORED_AS = {
    CallStatus.EXPIRED: {CallStatus.EXPIRED, CallStatus.PENDING},
    CallStatus.CANCELLED: {CallStatus.CANCELLED, *OPEN},
}
"""What may stand in the table for a call that has become so by time alone, until the sweep records it."""

FILTERS = {
    "own_user_id": "c.user_id = :own_user_id",
    "user_id": "c.user_id = :user_id",
    "agent_id": "c.agent_id = :agent_id",
    "tool_name": "c.tool_name = :tool_name",
}


NOW = f"""(c.status NOT IN ('pending', 'approved', 'running') OR EXISTS (
            SELECT FROM sessions s WHERE s.id = c.session_id
              AND {EFFECTIVE_STATUS} = ANY (CAST(:statuses AS text[]))))"""
"""What a call is by now is asked only of open ones: time changes no others, and these are the many."""


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What the inbox is narrowed by; None: not at all."""

    statuses: tuple[CallStatus, ...] = ()
    tool_name: str | None = None
    agent_id: str | None = None
    user_id: str | None = None


class Narrowing(StrEnum):
    """How the statuses that are wanted narrow the search: not at all, to the pending, or to several or others."""

    NONE = "none"
    PENDING = "pending"
    SETTLED = "settled"
    """Only statuses that time changes no more: what stands in the table is true, and an index alone can count it."""
    OPEN = "open"


EACH = frozenset({Narrowing.SETTLED, Narrowing.OPEN})
"""The newest of each status in turn."""


async def page(
    tx: Tx, caller: Caller, filters: Filters, *, before_id: UUID | None, limit: int
) -> tuple[PageRows[ToolCall], int]:
    """At most `limit` calls, newest first, and how many match in all (at most `COUNT_MAX`). In a transaction."""
    parameters: dict[str, Any] = {"tenant_id": caller.tenant_id}
    given = {
        "own_user_id": caller.sees_user,
        "user_id": filters.user_id,
        "agent_id": filters.agent_id,
        "tool_name": filters.tool_name,
    }
    parameters |= {name: value for name, value in given.items() if value is not None}
    shape = tuple(name for name in FILTERS if name in parameters)
    stored = {kept for status in filters.statuses for kept in STORED_AS.get(status, {status})}
    narrowing = _narrowing(filters.statuses, stored)
    if narrowing in {Narrowing.PENDING, Narrowing.OPEN}:
        parameters["statuses"] = list(filters.statuses)
    if narrowing in EACH:
        parameters["stored"] = sorted(stored)
    listing, counting = _statements(shape, narrowing, before_id is not None)
    await tx.rows(PLAN_ANEW)
    count = int(await tx.value(counting, **parameters, count_max=COUNT_MAX))
    if before_id is not None:
        parameters["before_id"] = before_id
    rows = await tx.rows(listing, **parameters, limit=limit)
    kept = fitting(rows)
    return PageRows(map(call_of, kept), is_cut=kept.is_cut), count


def _narrowing(statuses: tuple[CallStatus, ...], stored: set[CallStatus]) -> Narrowing:
    if not statuses:
        return Narrowing.NONE
    if set(statuses) == {CallStatus.PENDING}:
        return Narrowing.PENDING
    return Narrowing.OPEN if stored & OPEN else Narrowing.SETTLED


@lru_cache(maxsize=256)
def _statements(shape: tuple[str, ...], narrowing: Narrowing, resumes: bool) -> tuple[Statement, Statement]:
    conditions = ["c.tenant_id = :tenant_id", *(FILTERS[name] for name in shape)]
    if narrowing is Narrowing.PENDING:  # said plainly, so that the partial indexes of pending calls can serve
        conditions.append("c.status = 'pending'")
    if narrowing in EACH:
        conditions.append("c.status = kept.status")
    if narrowing in {Narrowing.PENDING, Narrowing.OPEN}:
        conditions.append(NOW)
    counting = f"SELECT count(*) FROM ({_newest('c.id', conditions, 'count_max', narrowing)}) counted"  # noqa: S608
    if resumes:
        conditions.append("c.id < CAST(:before_id AS uuid)")
    listing = f"""
        SELECT {COLUMNS}, c.so_far
        FROM (SELECT c.*, {so_far("c.weight", "c.id DESC")} AS so_far
              FROM ({_newest(f"c.*, {WEIGHT}", conditions, "limit", narrowing)}) c) c
        JOIN sessions s ON s.id = c.session_id
        WHERE {fits("c")}
        ORDER BY c.id DESC"""  # noqa: S608
    whole = sa.Integer
    return (
        Statement(sa.text(listing).bindparams(sa.bindparam("limit", type_=whole))),
        Statement(sa.text(counting).bindparams(sa.bindparam("count_max", type_=whole))),
    )


def _newest(columns: str, conditions: list[str], limit: str, narrowing: Narrowing) -> str:
    """The newest calls that meet the conditions; where statuses are wanted, the newest of the newest of each."""
    newest = f"""
        SELECT {columns} FROM tool_calls c WHERE {" AND ".join(conditions)} ORDER BY c.id DESC LIMIT :{limit}"""  # noqa: S608
    if narrowing not in EACH:
        return newest
    return f"""
        SELECT found.* FROM unnest(CAST(:stored AS text[])) AS kept (status) CROSS JOIN LATERAL ({newest}) found
        ORDER BY found.id DESC LIMIT :{limit}"""  # noqa: S608
