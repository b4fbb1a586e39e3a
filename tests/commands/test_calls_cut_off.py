"""Open calls are cut off in batches: each with its event, whatever their number; and what they may hold together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from conversations import CAUSE, acted, asked, opened, query

from service.commands import tool_calls as commands
from service.commands.messages import delete_message
from service.commands.sessions import end_session
from service.commands.tool_calls import CALLS_BYTES_MAX, LARGE_BYTES
from service.domain.caller import Caller
from service.domain.errors import PayloadTooLarge
from service.domain.tool_call import ARGUMENTS_BYTES_MAX, SESSION_ENDED
from service.store.engine import Database
from service.store.message_pages import page
from service.store.page_bytes import PAGE_BYTES_MAX

LARGE = b'{"a":"%b"}' % (b"x" * (ARGUMENTS_BYTES_MAX - 100))
SMALL = b'{"a":"%b"}' % (b"x" * (LARGE_BYTES // 2))


@pytest.fixture(params=[1, 2, 3, 7])
def at_once(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Batches of a size that seven calls fill, overfill, or do not fill."""
    monkeypatch.setattr(commands, "CUT_OFF_AT_ONCE", request.param)


async def seven_calls(database: Database, caller: Caller, session_id: Any) -> Any:
    """Of one message: two that wait, one that waited too long, two that may run, one that runs, one that is done."""
    calls = await asked(database, caller, session_id, *(f"tool-{n}" for n in range(7)))
    for call in calls[3:]:
        await acted(database, caller, call, "approve", reason="fine")
    for call in calls[5:]:
        await acted(database, caller, call, "start")
    await acted(database, caller, calls[6], "complete", result=b'"done"')
    await query(
        database,
        "UPDATE tool_calls SET expires_at = created_at - $2::interval WHERE id = $1",
        calls[2].id,
        timedelta(seconds=1),
    )
    return calls


async def stored(database: Database, calls: Any) -> list[tuple[Any, ...]]:
    rows = await query(
        database,
        "SELECT status, reason, error, version, arguments::text <> '' AS has_arguments, "
        "size = octet_length(arguments::text) + coalesce(octet_length(result::text), 0) "
        "+ coalesce(octet_length(reason), 0) + coalesce(octet_length(error), 0) AS is_sized "
        "FROM tool_calls WHERE id = ANY ($1) ORDER BY id",
        [call.id for call in calls],
    )
    assert all(row["has_arguments"] and row["is_sized"] for row in rows)
    return [(row["status"], row["reason"], row["error"], row["version"]) for row in rows]


async def told(database: Database, session_id: Any, since: int) -> list[tuple[str, str]]:
    """The events of calls behind a number: type and tool."""
    rows = await query(
        database,
        "SELECT type, data ->> 'tool_name' AS name FROM events WHERE session_id = $1 AND seq > $2 "
        "AND type LIKE 'tool_call.%' ORDER BY seq",
        session_id,
        since,
    )
    return [(row["type"], row["name"]) for row in rows]


async def events_of(database: Database, session_id: Any) -> tuple[int, int]:
    """The number of the last event, and how many calls are counted as waiting."""
    (row,) = await query(
        database, "SELECT last_event_seq, pending_tool_call_count FROM sessions WHERE id = $1", session_id
    )
    return row["last_event_seq"], row["pending_tool_call_count"]


CUT = [
    ("tool_call.cancelled", "tool-0"),
    ("tool_call.cancelled", "tool-1"),
    ("tool_call.expired", "tool-2"),
    *(("tool_call.cancelled", f"tool-{n}") for n in (3, 4, 5)),
]


@pytest.mark.usefixtures("at_once")
async def test_the_end_of_a_session_cuts_every_open_call_off(database: Database, caller: Caller):
    session = await opened(database, caller)
    calls = await seven_calls(database, caller, session.id)
    since, _ = await events_of(database, session.id)
    async with database.begin() as tx:
        await end_session(tx, caller, session.id, None, CAUSE)

    why = SESSION_ENDED
    assert await stored(database, calls) == [
        ("cancelled", why, None, 2),
        ("cancelled", why, None, 2),
        ("expired", calls[2].reason, None, 2),
        ("cancelled", "fine", why, 3),
        ("cancelled", "fine", why, 3),
        ("cancelled", "fine", why, 4),
        ("completed", "fine", None, 4),
    ]
    assert await told(database, session.id, since) == CUT
    assert await events_of(database, session.id) == (since + len(CUT) + 1, 0)


@pytest.mark.usefixtures("at_once")
async def test_a_deleted_message_takes_its_own_calls_alone(database: Database, caller: Caller):
    session = await opened(database, caller)
    calls = await seven_calls(database, caller, session.id)
    (other,) = await asked(database, caller, session.id, "other")
    since, _ = await events_of(database, session.id)
    async with database.begin() as tx:
        await delete_message(tx, caller, session.id, calls[0].message_id, CAUSE)

    assert await told(database, session.id, since) == CUT
    assert (await query(database, "SELECT status FROM tool_calls WHERE id = $1", other.id))[0]["status"] == "pending"
    assert await events_of(database, session.id) == (since + len(CUT) + 1, 1)


async def test_the_calls_of_a_message_hold_together_no_more_than_a_page(database: Database, caller: Caller):
    session = await opened(database, caller)
    calls = await asked(database, caller, session.id, *["tool"] * 40)
    fitting = CALLS_BYTES_MAX // len(LARGE) - 1
    for call in calls[:fitting]:
        await acted(database, caller, call, "approve", arguments=LARGE)

    with pytest.raises(PayloadTooLarge, match="The calls of this message would hold more than 8 MiB"):
        await acted(database, caller, calls[fitting], "approve", arguments=LARGE)

    await acted(database, caller, calls[fitting], "approve", arguments=SMALL)
    async with database.connect() as tx:
        rows = await page(
            tx,
            caller,
            session.id,
            order="desc",
            after_seq=0,
            before_seq=2**53,
            role=None,
            include_deleted=False,
            limit=10,
        )
    assert rows is not None
    assert sum(len(call.arguments) for message in rows for call in message.tool_calls) < 2 * PAGE_BYTES_MAX
