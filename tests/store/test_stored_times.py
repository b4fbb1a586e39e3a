"""Every time that an answer may show is written in UTC with six digits, also on a whole second (API 1)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from conversations import CAUSE, opened, query, said

from service.commands.api_keys import KeyWish, create_api_key, revoke_api_key
from service.commands.messages import delete_message
from service.commands.sessions import end_session, move_session
from service.domain.caller import Caller, Scope
from service.domain.session import Move
from service.handlers.encoding import encode
from service.store import api_keys, events, message_pages, messages, session_pages, sessions
from service.store.engine import Database, WholeSecond, written_out, written_out_if_any

ANY_TIME = re.compile(rb'"\d{4}-\d\d-\d\dT[^"]*"')
WHOLE_SECOND = re.compile(rb'"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000000Z"')


@pytest.mark.parametrize(
    ("moment", "written"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), b'"2026-01-31T12:00:00.000000Z"'),
        (datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC), b'"2026-01-31T12:00:00.000001Z"'),
        (datetime(2026, 1, 31, 12, 0, 0, 100_000, tzinfo=UTC), b'"2026-01-31T12:00:00.100000Z"'),
        (datetime(1970, 1, 1, tzinfo=UTC), b'"1970-01-01T00:00:00.000000Z"'),
        (datetime(1, 1, 1, tzinfo=UTC), b'"0001-01-01T00:00:00.000000Z"'),
    ],
)
def test_a_time_is_written_with_six_digits(moment: datetime, written: bytes):
    assert encode(written_out(moment)) == written
    assert encode(written_out_if_any(moment)) == written
    assert written_out(moment) == moment
    assert written_out_if_any(None) is None


def test_a_whole_second_is_equal_to_the_same_plain_time():
    plain = datetime(2026, 1, 31, tzinfo=UTC)

    assert isinstance(written_out(plain), WholeSecond)
    assert written_out(plain) == plain


@pytest.mark.parametrize("microsecond", [0, 1, 999_999])
@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=-8))])
async def test_a_time_comes_back_in_utc_exact_to_the_microsecond(database: Database, microsecond: int, zone: timezone):
    given = datetime(2026, 1, 31, 12, 30, 15, microsecond, tzinfo=zone)
    ((read,),) = await query(database, "SELECT $1::timestamptz", given)

    assert read == given
    assert read.utcoffset() == timedelta(0)


async def test_whatever_is_read_or_written_on_a_whole_second_shows_all_its_times_with_six_digits(
    database: Database, caller: Caller
):
    """The session was last changed at a whole second a minute from now, so all that follows happens at that second."""
    session = await opened(database, caller, external_id="mine", system_prompt="x")
    await query(
        database,
        "UPDATE sessions SET created_at = at, updated_at = at, last_message_at = at, expires_at = at + interval '1 h' "
        "FROM (SELECT date_trunc('minute', clock_timestamp() + interval '1 minute') AS at) next WHERE id = $1",
        session.id,
    )
    shown: dict[str, Any] = {}
    async with database.begin() as tx:
        shown["suspended"] = await move_session(tx, caller, session.id, Move.SUSPEND, None, CAUSE)
        shown["resumed"] = await move_session(tx, caller, session.id, Move.RESUME, None, CAUSE)
        shown["external id"] = await sessions.get_living(tx, caller.tenant_id, session.user_id, "mine")
    shown["appended"] = first = await said(database, caller, session.id, "one")
    shown["batch"] = await said(database, caller, session.id, "two", "three")
    async with database.begin() as tx:
        await delete_message(tx, caller, session.id, first[0].id, CAUSE)
        await end_session(tx, caller, session.id, None, CAUSE)
    async with database.connect() as tx:
        shown["get"] = await sessions.get(tx, caller, session.id)
        for sort in ("created_at", "-updated_at"):
            listed = await session_pages.page(tx, caller, session_pages.Filters(), sort=sort, position=None, limit=9)
            shown[sort] = [row.session for row in listed]
        shown["message"] = await messages.get(tx, caller, session.id, first[0].id)
        page = await message_pages.page(
            tx, caller, session.id, order="asc", after_seq=1, before_seq=9, role=None, include_deleted=True, limit=9
        )
        shown["messages"] = page
        told = await events.page(tx, caller, session.id, after_seq=3, types=None, limit=99)
        shown["events"] = told

    assert len(page or []) == 3
    assert len(told or []) == 7
    assert_all_whole(shown)


async def test_a_key_made_on_a_whole_second_shows_all_its_times_with_six_digits(database: Database, tenant: str):
    wish = KeyWish(tenant_id=tenant, name="n", user_id=None, scopes=[Scope.ADMIN], lifetime=timedelta(days=1))
    async with database.begin() as tx:
        key, _ = await create_api_key(tx, wish)
        await revoke_api_key(tx, key.id, tenant_id=tenant)
    await query(
        database,
        "UPDATE api_keys SET created_at = date_trunc('second', created_at), "
        "expires_at = date_trunc('second', expires_at), revoked_at = date_trunc('second', revoked_at) WHERE id = $1",
        key.id,
    )
    async with database.connect() as tx:
        listed = await api_keys.page(tx, tenant, before_id=None, limit=9)

    assert len(ANY_TIME.findall(encode(listed))) == 3
    assert_all_whole({"keys": listed})


def assert_all_whole(shown: dict[str, Any]) -> None:
    for name, value in shown.items():
        times = ANY_TIME.findall(encode(value))
        assert times, name
        assert times == WHOLE_SECOND.findall(encode(value)), name
