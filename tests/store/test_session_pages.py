"""Listings of sessions: every row once, in order, whatever is added meanwhile; filters alone and together."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

import msgspec
import pytest
from conversations import opened, query

from service.domain.caller import Caller
from service.domain.session import Session, Status
from service.ids import new_id
from service.store import session_pages
from service.store.engine import Database
from service.store.session_pages import Filters, Listed, Position

SORTS = ("-created_at", "created_at", "-updated_at", "updated_at")
ROWS = 120
ALL_ROWS = 10_000


LAST_MINUTES = range(300)
TWICE_AS_LONG = range(600)
"""Seconds ago."""

OLDER_THAN_ALL = range(3600, 3601)
YOUNGER_THAN_ALL = range(-3600, -3599)
"""As if other clocks were ahead: behind all pages in ascending order, even those that are still to be added to."""


async def add_rows(database: Database, tenant: str, count: int, *, seconds_ago: range = LAST_MINUTES) -> None:
    """Sessions of every kind, many of them at the very same moments."""
    now = (await query(database, "SELECT statement_timestamp()"))[0][0]
    chance = random.Random(f"{tenant}{now}")  # noqa: S311 - examples, not secrets; others at each call
    for _ in range(count):
        created = now - timedelta(seconds=chance.choice(seconds_ago))
        updated = created + timedelta(seconds=chance.choice((0, 0, 1, 59, 60, 61)))
        status = chance.choice(list(Status))
        ended = status is Status.ENDED
        await query(
            database,
            """
            INSERT INTO sessions (id, tenant_id, user_id, agent_id, status, external_id, config, metadata, tags,
                message_count, attachment_count, pending_tool_call_count, version, last_message_seq, last_event_seq,
                created_at, updated_at, expires_at, ended_at, end_reason)
            VALUES ($1, $2, $3, $4, $5, $6, '{"max_messages": 10, "timeout_minutes": 60}', $7, $8, 0, 0, 0, 1, 0, 0,
                    $9, $10, $11, CASE WHEN $12 THEN $10::timestamptz END, CASE WHEN $12 THEN 'requested' END)
            """,
            new_id(),
            tenant,
            chance.choice(("user-1", "user-2")),
            chance.choice(("agent-1", "agent-2")),
            status.value,
            chance.choice((None, f"external-{new_id()}")),
            chance.choice(('{"k": "v"}', '{"k": "w", "n": 1}', '{"k": null, "b": true, "o": {"a":1}}', "{}")),
            chance.choice((["red"], ["red", "blue"], [])),
            created,
            updated,
            updated + timedelta(hours=chance.choice((1, 1, 1, -2))),
            ended,
        )


async def page(database: Database, caller: Caller, filters: Filters | None = None, **options: Any) -> list[Listed]:
    asked: dict[str, Any] = {"sort": "-created_at", "position": None, "limit": ALL_ROWS}
    async with database.connect() as tx:
        return await session_pages.page(tx, caller, filters or Filters(), **asked | options)


async def paged(
    database: Database,
    caller: Caller,
    sort: str,
    limit: int,
    between: Callable[[], Awaitable[object]] | None = None,
    filters: Filters | None = None,
) -> list[Listed]:
    """All pages one after the other; `between` runs between each two."""
    rows: list[Listed] = []
    position: Position | None = None
    while True:
        found = await page(database, caller, filters, sort=sort, position=position, limit=limit)
        rows += found
        if len(found) < limit:
            return rows
        position = Position(found[-1].sorted_at, found[-1].session.id)
        if between is not None:
            await between()


@pytest.fixture
async def filled(database: Database, tenant: str) -> None:
    await add_rows(database, tenant, ROWS)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("sort", SORTS)
async def test_the_pages_are_all_rows_once_in_the_order_of_the_stored_time(
    database: Database, caller: Caller, sort: str
):
    column = sort.removeprefix("-")
    direction = "DESC" if sort.startswith("-") else "ASC"
    expected = await query(
        database,
        f"SELECT id, {column} FROM sessions WHERE tenant_id = $1 ORDER BY {column} {direction}, id {direction}",
        caller.tenant_id,
    )

    for limit in (1, 7, 200):
        rows = await paged(database, caller, sort, limit)
        assert [(row.session.id, row.sorted_at) for row in rows] == [tuple(row) for row in expected]
    assert len({row[column] for row in expected}) < ROWS, "no two rows at the same time: nothing was tested"


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("sort", SORTS)
async def test_none_that_stood_is_skipped_or_repeated_while_others_are_added(
    database: Database, caller: Caller, sort: str
):
    standing = [row.session.id for row in await page(database, caller, sort=sort)]
    behind_all_pages = OLDER_THAN_ALL if sort.startswith("-") else YOUNGER_THAN_ALL

    async def add() -> None:
        await add_rows(database, caller.tenant_id, 3, seconds_ago=TWICE_AS_LONG)
        await add_rows(database, caller.tenant_id, 1, seconds_ago=behind_all_pages)

    rows = await paged(database, caller, sort, 10, between=add)

    seen = [row.session.id for row in rows]
    assert len(seen) == len(set(seen))
    assert [id_ for id_ in seen if id_ in set(standing)] == standing
    assert len(seen) > len(standing)


def matches(session: Session, filters: Filters) -> bool:
    """Whether a session passes the filters, by its representation alone."""
    metadata = msgspec.json.decode(session.metadata)
    return all(
        (
            not filters.status or session.status in filters.status,
            filters.agent_id in {None, session.agent_id},
            filters.user_id in {None, session.user_id},
            filters.tag is None or filters.tag in session.tags,
            filters.external_id in {None, session.external_id},
            filters.created_after is None or session.created_at > filters.created_after,
            filters.created_before is None or session.created_at < filters.created_before,
            filters.updated_after is None or session.updated_at > filters.updated_after,
            all(
                key in metadata and msgspec.json.encode(metadata[key]).decode() == value
                for key, value in filters.metadata
            ),
        )
    )


@pytest.mark.usefixtures("filled")
async def test_each_filter_alone_and_each_two_and_all_together_find_what_matches(database: Database, caller: Caller):
    everything = [row.session for row in await page(database, caller)]
    example = next(session for session in everything[ROWS // 3 :] if session.external_id)
    alone: dict[str, list[Any]] = {
        "status": [(Status.ACTIVE,), (Status.ENDED,), (Status.CREATED, Status.SUSPENDED)],
        "agent_id": ["agent-1", "nobody"],
        "user_id": ["user-2", "nobody"],
        "tag": ["red", "blue", "none"],
        "external_id": [example.external_id, "none"],
        "metadata": [
            (("k", '"v"'),), (("n", "1"),), (("b", "true"),), (("k", '"w"'), ("n", "1")), (("k", "null"),),
            (("o", '{"a":1}'),), (("o", "{}"),), (("none", '"v"'),), (("k", '"null"'),),
        ],
        "created_after": [example.created_at],
        "created_before": [example.created_at],
        "updated_after": [example.updated_at],
    }  # fmt: skip
    found_by = dict.fromkeys(alone, 0)
    for names in [*combinations(alone, 1), *combinations(alone, 2), tuple(alone)]:
        for choice in range(max(len(alone[name]) for name in names)):
            filters = Filters(**{name: alone[name][choice % len(alone[name])] for name in names})
            expected = [session.id for session in everything if matches(session, filters)]

            found = [row.session.id for row in await page(database, caller, filters)]

            assert found == expected, filters
            if len(names) == 1:
                found_by[names[0]] += len(found)
    assert all(count > 0 for count in found_by.values()), f"a filter that never matched: {found_by}"


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("sort", SORTS)
async def test_filters_apply_before_the_limit(database: Database, caller: Caller, sort: str):
    rare = await opened(database, caller, tags=["rare"])
    other = await opened(database, caller, tags=["rare"])

    rows = await paged(database, caller, sort, 1, filters=Filters(tag="rare"))

    assert {row.session.id for row in rows} == {rare.id, other.id}
    assert len(rows) == 2


async def test_a_position_is_exact_to_the_microsecond(database: Database, caller: Caller):
    sessions = [await opened(database, caller) for _ in range(3)]
    moment = datetime.fromisoformat("2026-01-31T12:00:00+00:00")
    for place, session in enumerate(sessions):
        await query(
            database,
            "UPDATE sessions SET created_at = $2, updated_at = $2 WHERE id = $1",
            session.id,
            moment + timedelta(microseconds=place),
        )

    for sort in SORTS:
        rows = await paged(database, caller, sort, 1)
        expected = [session.id for session in sessions]
        assert [row.session.id for row in rows] == (expected[::-1] if sort.startswith("-") else expected)
