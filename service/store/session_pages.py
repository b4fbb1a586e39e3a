"""Listings of sessions: filters, two orders, and positions to go on from."""

from __future__ import annotations

from datetime import MINYEAR, UTC, datetime
from functools import lru_cache
from typing import Annotated, Any
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.sql.elements import ColumnElement

from service.domain.caller import Caller
from service.domain.session import Session, Status
from service.store.engine import Statement, Tx
from service.store.session_rows import COLUMNS, EFFECTIVE_STATUS, EFFECTIVE_UPDATED_AT, session_of
from service.store.tables import Id, Time
from service.store.tables import sessions as s

EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

STATEMENTS_MAX = 512
"""Compiled statements that are kept: one for each combination of filters that is in use."""


CONDITIONS: dict[str, ColumnElement[bool]] = {
    "own_user_id": s.c.user_id == sa.bindparam("own_user_id", type_=sa.Text),
    "status": sa.any_(sa.bindparam("status", type_=pg.ARRAY(sa.Text))) == EFFECTIVE_STATUS,
    "agent_id": s.c.agent_id == sa.bindparam("agent_id", type_=sa.Text),
    "user_id": s.c.user_id == sa.bindparam("user_id", type_=sa.Text),
    "tag": sa.any_(s.c.tags) == sa.bindparam("tag", type_=sa.Text),
    "external_id": s.c.external_id == sa.bindparam("external_id", type_=sa.Text),
    "created_after": s.c.created_at > sa.bindparam("created_after", type_=Time),
    "created_before": s.c.created_at < sa.bindparam("created_before", type_=Time),
    "updated_after": sa.bindparam("updated_after", type_=Time) < EFFECTIVE_UPDATED_AT,
}
"""Each filter as a condition on the row. `own_user_id` is the 404 rule for users."""


class Listed(msgspec.Struct, frozen=True):
    """A session in a listing, and the stored time by which the listing is sorted."""

    session: Session
    sorted_at: datetime


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing of sessions is narrowed by; None or empty: not at all."""

    status: tuple[Status, ...] = ()
    agent_id: str | None = None
    user_id: str | None = None
    tag: str | None = None
    external_id: str | None = None
    metadata: tuple[tuple[str, str], ...] = ()
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of sessions ended: the sorted time of its last row (microseconds exact), and that row's id."""

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    id: UUID


async def page(
    tx: Tx, caller: Caller, filters: Filters, *, sort: str, position: Position | None, limit: int
) -> list[Listed]:
    """At most `limit` sessions in the order of `sort` (`created_at` or `updated_at`, `-` for newest first)."""
    parameters: dict[str, Any] = {"tenant_id": caller.tenant_id, "limit": limit}
    shape = []
    if caller.sees_user is not None:
        parameters["own_user_id"] = caller.sees_user
        shape.append("own_user_id")
    for name in CONDITIONS:
        value = getattr(filters, name, None)
        if value not in {None, ()}:
            parameters[name] = _parameter(value)
            shape.append(name)
    for index, (key, value) in enumerate(filters.metadata):
        parameters[f"metadata_key_{index}"] = key
        parameters[f"metadata_value_{index}"] = value
    if position is not None:
        parameters["position_at"] = _parameter(position.at)
        parameters["position_id"] = position.id
    statement = _page_statement(tuple(shape), len(filters.metadata), sort, position is not None)
    return [Listed(session_of(row), row["sorted_at"]) for row in await tx.rows(statement, **parameters)]


def _parameter(value: Any) -> Any:
    """A filter's value as PostgreSQL takes it. A time without a name in UTC (year 0 or 10000) becomes the furthest."""
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC)
        except OverflowError:
            return EARLIEST if value.year == MINYEAR else LATEST
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=STATEMENTS_MAX)
def _page_statement(shape: tuple[str, ...], metadata_filters: int, sort: str, resumes: bool) -> Statement:
    order = _order(sort)
    query = sa.select(*COLUMNS, order[-2].label("sorted_at"))
    query = query.where(s.c.tenant_id == sa.bindparam("tenant_id", type_=sa.Text))
    for name in shape:
        query = query.where(CONDITIONS[name])
    for index in range(metadata_filters):
        key = sa.bindparam(f"metadata_key_{index}", type_=sa.Text)
        query = query.where(s.c.metadata.op("->>")(key) == sa.bindparam(f"metadata_value_{index}", type_=sa.Text))
    if resumes:
        at = sa.bindparam("position_at", type_=Time)
        id_ = sa.bindparam("position_id", type_=Id)
        mark = [_minute(at), at, id_] if len(order) == 3 else [at, id_]  # noqa: PLR2004 - minute, time, id
        row, past = sa.tuple_(*order), sa.tuple_(*mark)
        query = query.where(row < past if sort.startswith("-") else row > past)
    directed = [column.desc() for column in order] if sort.startswith("-") else order
    return Statement(query.order_by(*directed).limit(sa.bindparam("limit", type_=sa.Integer)))


def _order(sort: str) -> list[ColumnElement[Any]]:
    if sort.removeprefix("-") == "updated_at":
        return [s.c.updated_minute, s.c.updated_at, s.c.id]
    return [s.c.created_at, s.c.id]


def _minute(at: ColumnElement[Any]) -> ColumnElement[Any]:
    return sa.func.date_bin(
        sa.text("interval '1 minute'"), at, sa.text("timestamptz '2000-01-01 00:00:00+00'"), type_=Time
    )
