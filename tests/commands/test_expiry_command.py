"""Expiry: recorded once, whoever sweeps and whoever still speaks; nothing happens afterwards."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from conversations import CAUSE, let_its_time_pass, opened, query, said
from invariants import violations

from service.commands.sessions import Change, change_session, end_session, expire_sessions, move_session
from service.domain.caller import Caller
from service.domain.errors import DomainError, SessionExpired
from service.domain.session import EndReason, Move, Session, Status
from service.store import sessions
from service.store.engine import Database
from workers.jobs.expire_sessions import sweep_expired_sessions

SWEEPERS = 4
SESSIONS = 40
BATCH = 3


async def swept(database: Database, caller: Caller, limit: int) -> int:
    async with database.begin() as tx:
        return len(await expire_sessions(tx, caller.tenant_id, limit))


async def told_of(database: Database) -> dict[UUID, list[str]]:
    rows = await query(
        database, "SELECT session_id, array_agg(type ORDER BY seq) AS types FROM events GROUP BY session_id"
    )
    return {row["session_id"]: row["types"] for row in rows}


async def read(database: Database, caller: Caller, session_id: UUID) -> Session:
    async with database.connect() as tx:
        session = await sessions.get(tx, caller, session_id)
    assert session is not None
    return session


async def test_four_sweepers_among_appends_record_each_expiry_exactly_once(own_database: Database, caller: Caller):
    standing = [await opened(own_database, caller) for _ in range(SESSIONS)]
    over, live = standing[: SESSIONS // 2], standing[SESSIONS // 2 :]
    for session in over:
        await let_its_time_pass(own_database, session.id)

    async def sweep_until_nothing_is_left() -> int:
        total = 0
        while (ended := await swept(own_database, caller, BATCH)) > 0:
            total += ended
        return total

    async def speak(session: Session) -> list[type[DomainError] | None]:
        outcomes: list[type[DomainError] | None] = []
        for n in range(5):
            try:
                await said(own_database, caller, session.id, f"{n}")
                outcomes.append(None)
            except DomainError as refusal:
                outcomes.append(type(refusal))
        return outcomes

    spoken, *counts = await asyncio.gather(
        asyncio.gather(*(speak(session) for session in standing)),
        *(sweep_until_nothing_is_left() for _ in range(SWEEPERS)),
    )
    counts.append(await swept(own_database, caller, SESSIONS))

    told = await told_of(own_database)
    assert sum(counts) == len(over)
    assert spoken == [[SessionExpired] * 5] * len(over) + [[None] * 5] * len(live)
    assert {tuple(told[session.id]) for session in over} == {
        ("session.created", "session.activated", "session.expired")
    }
    assert [told[session.id].count("session.expired") for session in live] == [0] * len(live)
    await assert_sound(own_database)


async def test_sessions_whose_time_ends_while_others_speak_in_them_either_live_on_or_end_once(
    own_database: Database, caller: Caller
):
    """Each append that is in time gives the session a second that is longer than the test: one late is refused."""
    standing = [await opened(own_database, caller) for _ in range(SESSIONS)]
    await query(
        own_database,
        "UPDATE sessions SET expires_at = clock_timestamp() + random() * interval '500 ms' + interval '50 ms'",
    )

    async def speak_until_it_is_settled(session: Session) -> bool:
        await asyncio.sleep(0.02 * (session.id.int % 29))
        try:
            await said(own_database, caller, session.id, "still here")
        except SessionExpired:
            return False
        return True

    async def sweep_until_settled(speaking: asyncio.Future[list[bool]]) -> None:
        while not speaking.done():
            await swept(own_database, caller, BATCH)

    speaking = asyncio.gather(*(speak_until_it_is_settled(session) for session in standing))
    await asyncio.gather(speaking, *(sweep_until_settled(speaking) for _ in range(SWEEPERS)))
    await sweep_expired_sessions(own_database)

    for session, lives in zip(standing, speaking.result(), strict=True):
        now = await read(own_database, caller, session.id)
        assert (now.status, now.message_count) == ((Status.ACTIVE, 1) if lives else (Status.ENDED, 0))
    await assert_sound(own_database)


async def test_a_sweep_goes_on_until_all_are_recorded_and_ends_at_most_as_many_as_it_may(
    own_database: Database, caller: Caller
):
    for _ in range(5):
        await let_its_time_pass(own_database, (await opened(own_database, caller)).id)

    assert [await swept(own_database, caller, 2), await swept(own_database, caller, 2)] == [2, 2]
    assert await sweep_expired_sessions(own_database) == 1
    assert await sweep_expired_sessions(own_database) == 0


async def test_a_session_that_is_locked_by_a_request_is_left_for_the_next_sweep(own_database: Database, caller: Caller):
    session = await opened(own_database, caller)
    await let_its_time_pass(own_database, session.id)

    async with own_database.begin() as tx:
        assert await sessions.lock(tx, caller, session.id) is not None
        assert await swept(own_database, caller, 10) == 0
    assert await swept(own_database, caller, 10) == 1


async def test_expiry_tells_when_the_time_was_over_and_that_time_itself_did_it(own_database: Database, caller: Caller):
    session = await opened(own_database, caller)
    await let_its_time_pass(own_database, session.id)
    (expires_at,) = (await query(own_database, "SELECT expires_at FROM sessions"))[0]
    await swept(own_database, caller, 10)

    (row,) = await query(
        own_database,
        "SELECT occurred_at, actor_kind, actor_subject, request_id, data::jsonb ->> 'end_reason' AS reason "
        "FROM events WHERE type = 'session.expired'",
    )
    assert tuple(row) == (expires_at, "system", "expiry", None, "expired")
    after = await read(own_database, caller, session.id)
    assert (after.ended_at, after.updated_at, after.end_reason) == (expires_at, expires_at, EndReason.EXPIRED)


@pytest.mark.parametrize("is_swept", [False, True])
async def test_every_write_after_the_time_is_refused_and_ending_changes_nothing(
    own_database: Database, caller: Caller, *, is_swept: bool
):
    session = await opened(own_database, caller)
    await said(own_database, caller, session.id, "words")
    await let_its_time_pass(own_database, session.id)
    if is_swept:
        await swept(own_database, caller, 10)
    before = await query(own_database, "SELECT s.*, (SELECT count(*) FROM events) FROM sessions s")

    async with own_database.begin() as tx:
        for attempt in (
            change_session(tx, caller, session.id, Change(title="x"), None, CAUSE),
            change_session(tx, caller, session.id, Change(), None, CAUSE),
            *(move_session(tx, caller, session.id, move, None, CAUSE) for move in Move),
        ):
            with pytest.raises(SessionExpired):
                await attempt
        assert await end_session(tx, caller, session.id, None, CAUSE) is False
    with pytest.raises(SessionExpired):
        await said(own_database, caller, session.id, "more")

    assert await query(own_database, "SELECT s.*, (SELECT count(*) FROM events) FROM sessions s") == before


async def assert_sound(database: Database) -> None:
    async with database.connect() as tx:
        assert await violations(tx._connection) == []
