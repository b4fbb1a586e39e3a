"""Listings of sessions: filters, two orders, and positions to go on from."""

from __future__ import annotations

from collections.abc import Iterable
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
from service.store.page_bytes import PAGE_BYTES_MAX, ROW_BYTES, SMALL_BYTES, PageRows, fitting
from service.store.session_labels import BY_LABELS, either_way, equals, wanted_of
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


WEIGHT = sa.func.coalesce(
    s.c.size,
    sa.func.octet_length(sa.cast(s.c.config, sa.Text)) + sa.func.octet_length(sa.cast(s.c.metadata, sa.Text)),
) + sa.literal_column(str(ROW_BYTES))
"""The bytes of a session, for pages that end at a size."""

SMALL_COLUMNS = [
    sa.case((s.c.size <= sa.literal_column(str(SMALL_BYTES)), s.c.config)).label("config")
    if column is s.c.config
    else column
    for column in COLUMNS
]
"""Without the config of what is large, or has no size: to add up the sizes costs a page of small ones a twelfth."""


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
    """Top-level keys, each with the JSON text of the value that it has."""
    created_after: datetime | None = None
    created_before: datetime | None = None
    updated_after: datetime | None = None

    @property
    def is_search(self) -> bool:
        """Whether sessions are looked through one by one: by what no index says in the order of the pages."""
        return bool(self.status or self.agent_id or self.tag or self.metadata or self.updated_after)


class Position(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of sessions ended: the sorted time of its last row (microseconds exact), and that row's id."""

    at: Annotated[datetime, msgspec.Meta(tz=True)]
    id: UUID


async def page(
    tx: Tx, caller: Caller, filters: Filters, *, sort: str, position: Position | None, limit: int
) -> PageRows[Listed]:
    """At most `limit` sessions in the order of `sort` (`created_at` or `updated_at`, `-` for newest first).

    With filters on metadata, in a transaction.
    """
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
    if position is not None:
        parameters["position_at"] = _parameter(position.at)
        parameters["position_id"] = position.id
    nested = tuple(index for index, (_, value) in enumerate(filters.metadata) if value.startswith(("{", "[")))
    if filters.metadata:
        parameters["wanted"] = wanted_of(filters.metadata)
        for index in nested:
            parameters[f"key_{index}"], parameters[f"value_{index}"] = filters.metadata[index]
        await tx.rows(BY_LABELS)
    wanted = (tuple(shape), sort, position is not None, nested if filters.metadata else None)
    rows = None if filters.metadata else await tx.rows(_page_statement(*wanted, is_sized=False), **parameters)
    if rows is None or any(row["config"] is None for row in rows):
        kept = fitting(await tx.rows(_page_statement(*wanted, is_sized=True), **parameters))
    else:
        kept = PageRows(rows)
    return PageRows((Listed(session_of(row), row["sorted_at"]) for row in kept), is_cut=kept.is_cut)


def _parameter(value: Any) -> Any:
    """A filter's value as PostgreSQL takes it. A time without a name in UTC (year 0 or 10000) becomes the furthest."""
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC)
        except OverflowError:
            return EARLIEST if value.year == MINYEAR else LATEST
    return list(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=STATEMENTS_MAX)
def _page_statement(
    shape: tuple[str, ...], sort: str, resumes: bool, nested: tuple[int, ...] | None, *, is_sized: bool
) -> Statement:
    """`nested`: which of the filters on metadata ask for an object or a list; None: there are no such filters.

    `is_sized`: what is too much for a page is left out; else it has no config, and the page is to be read again.
    """
    order = _order(sort)
    keys = [column.label(f"order_{place}") for place, column in enumerate(order)]
    columns = [*COLUMNS, WEIGHT.label("weight"), *keys] if is_sized else SMALL_COLUMNS
    query = sa.select(*columns, order[-2].label("sorted_at"))
    query = query.where(s.c.tenant_id == sa.bindparam("tenant_id", type_=sa.Text))
    for name in shape:
        query = query.where(CONDITIONS[name])
    if resumes:
        at = sa.bindparam("position_at", type_=Time)
        id_ = sa.bindparam("position_id", type_=Id)
        mark = [_minute(at), at, id_] if len(order) == 3 else [at, id_]  # noqa: PLR2004 - minute, time, id
        row, past = sa.tuple_(*order), sa.tuple_(*mark)
        query = query.where(row < past if sort.startswith("-") else row > past)
    if nested is not None:
        query = query.where(*(equals(f"key_{index}", f"value_{index}") for index in nested))
    if not is_sized:
        directed = [column.desc() for column in order] if sort.startswith("-") else order
        return Statement(query.order_by(*directed).limit(sa.bindparam("limit", type_=sa.Integer)))
    return Statement(_cut_to_size(query, nested is not None, order, keys, is_newest_first=sort.startswith("-")))


def _cut_to_size(
    query: sa.Select[Any], by_labels: bool, order: list[Any], keys: list[Any], *, is_newest_first: bool
) -> sa.Select[Any]:
    """The rows of the query in their order, up to the limit, and to the first one that is too much for a page."""

    def directed(columns: Iterable[Any]) -> list[Any]:
        return [column.desc() if is_newest_first else column for column in columns]

    limit = sa.bindparam("limit", type_=sa.Integer)
    ways = either_way(query) if by_labels else (query,)
    branches = [way.order_by(*directed(order)).limit(limit) for way in ways]
    found = branches[0] if len(branches) == 1 else sa.union_all(*(sa.select(one.subquery()) for one in branches))
    rows = found.subquery("found")
    in_order = directed(rows.c[key.name] for key in keys)
    so_far = sa.func.sum(rows.c.weight).over(order_by=in_order, rows=(None, 0)).label("so_far")
    summed = sa.select(rows, so_far).subquery("summed")
    fits = summed.c.so_far - summed.c.weight <= sa.literal_column(str(PAGE_BYTES_MAX))
    shown = [summed.c[column.name] for column in COLUMNS]
    in_order = directed(summed.c[key.name] for key in keys)
    return sa.select(*shown, summed.c.sorted_at, summed.c.so_far).where(fits).order_by(*in_order)


def _order(sort: str) -> list[ColumnElement[Any]]:
    if sort.removeprefix("-") == "updated_at":
        return [s.c.updated_minute, s.c.updated_at, s.c.id]
    return [s.c.created_at, s.c.id]


def _minute(at: ColumnElement[Any]) -> ColumnElement[Any]:
    return sa.func.date_bin(
        sa.text("interval '1 minute'"), at, sa.text("timestamptz '2000-01-01 00:00:00+00'"), type_=Time
    )
