"""What is done to a session by many at once: nothing is lost, one wins, and the end is final."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from conversations import CAUSE, asked, filed, opened, opening, query, said, service_of, user_of
from invariants import violations
from rounds import rounds

from service.commands.messages import delete_message
from service.commands.sessions import (
    Change,
    change_session,
    end_session,
    move_session,
    open_session,
    purge_session,
)
from service.domain.caller import Caller
from service.domain.errors import (
    AlreadyExists,
    DomainError,
    InvalidTransition,
    SessionEnded,
    SessionNotFound,
    VersionMismatch,
)
from service.domain.session import EndReason, Move, Session, SessionConfig, Status
from service.store import idempotency, sessions
from service.store.engine import Database
from service.store.idempotency import About

RACERS = 20
ROUNDS = rounds(50)
"""An order that one round in five meets is missed by 10 rounds in 11 % of all runs, by 50 in none of 70,000."""


async def changed(
    database: Database, caller: Caller, session_id: UUID, versions: frozenset[int] | None = None, **fields: Any
) -> tuple[Session, bool]:
    async with database.begin() as tx:
        return await change_session(tx, caller, session_id, Change(**fields), versions, CAUSE)


async def moved(
    database: Database, caller: Caller, session_id: UUID, move: Move, versions: frozenset[int] | None = None
) -> Session:
    async with database.begin() as tx:
        return await move_session(tx, caller, session_id, move, versions, CAUSE)


async def ended(database: Database, caller: Caller, session_id: UUID) -> bool:
    async with database.begin() as tx:
        return await end_session(tx, caller, session_id, None, CAUSE)


async def purged(database: Database, caller: Caller, session_id: UUID) -> None:
    async with database.begin() as tx:
        await purge_session(tx, caller, session_id)


async def read(database: Database, caller: Caller, session_id: UUID) -> Session:
    async with database.connect() as tx:
        session = await sessions.get(tx, caller, session_id)
    assert session is not None
    return session


async def raced(attempts: Iterable[Awaitable[Any]]) -> tuple[list[Any], list[DomainError]]:
    """What the winners got, and what the losers were told; anything but a refusal is raised."""
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, DomainError):
            raise outcome
    return (
        [outcome for outcome in outcomes if not isinstance(outcome, DomainError)],
        [outcome for outcome in outcomes if isinstance(outcome, DomainError)],
    )


async def told_of(database: Database, session_id: UUID) -> list[str]:
    rows = await query(database, "SELECT type FROM events WHERE session_id = $1 ORDER BY seq", session_id)
    return [row["type"] for row in rows]


async def assert_sound(database: Database, session_id: UUID | None = None) -> None:
    async with database.connect() as tx:
        assert await violations(tx._connection, session_id) == []


async def test_concurrent_patches_of_different_keys_all_survive(database: Database, caller: Caller):
    session = await opened(database, caller, metadata={"standing": True})

    answers = await asyncio.gather(
        *(changed(database, caller, session.id, metadata={f"key-{n}": n}) for n in range(RACERS))
    )

    after = await read(database, caller, session.id)
    assert msgspec.json.decode(after.metadata) == {"standing": True} | {f"key-{n}": n for n in range(RACERS)}
    assert sorted(answer.version for answer, _ in answers) == list(range(2, RACERS + 2))
    assert (await told_of(database, session.id)).count("session.updated") == RACERS
    await assert_sound(database, session.id)


async def test_of_racers_that_name_the_same_version_one_wins(database: Database, caller: Caller):
    session = await opened(database, caller)
    only = frozenset({session.version})

    winners, losers = await raced(
        changed(database, caller, session.id, only, title=f"racer {n}") for n in range(RACERS)
    )

    assert len(winners) == 1
    assert {type(loser) for loser in losers} == {VersionMismatch}
    assert {loser.extras["current_version"] for loser in losers} == {2}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"title": "title"},
        {"tags": ["a", "b"]},
        {"metadata": {}},
        {"metadata": {"k": 1}},
        {"metadata": {"absent": None}},
        {"config": {}},
        {"config": {"max_messages": 7, "timeout_minutes": None}},
        {"title": "title", "tags": ["a", "b"], "metadata": {"k": 1}, "config": {"max_messages": 7}},
    ],
)
async def test_a_patch_that_changes_nothing_records_nothing(database: Database, caller: Caller, fields: dict[str, Any]):
    session = await opened(
        database,
        caller,
        title="title",
        tags=["a", "b"],
        metadata={"k": 1},
        config=SessionConfig(max_messages=7),
    )
    before = await told_of(database, session.id)

    assert await changed(database, caller, session.id, **fields) == (session, False)
    assert await read(database, caller, session.id) == session
    assert await told_of(database, session.id) == before


async def test_a_patch_tells_which_fields_it_changed_and_nothing_of_what_they_hold(database: Database, caller: Caller):
    session = await opened(database, caller, title="old")
    await changed(database, caller, session.id, title="secret words", tags=[], metadata={"k": "secret words"})

    (row,) = await query(
        database, "SELECT data FROM events WHERE session_id = $1 AND type = 'session.updated'", session.id
    )
    assert msgspec.json.decode(row["data"]) == {"changed": ["title", "metadata"]}


async def test_a_session_that_was_ended_is_never_renamed_back_to_life(database: Database, caller: Caller):
    standing = [await opened(database, caller) for _ in range(ROUNDS)]

    async def one_round(session: Session, n: int) -> None:
        first, second = ended(database, caller, session.id), changed(database, caller, session.id, title="new")
        winners, losers = await raced((first, second) if n % 2 else (second, first))
        after = await read(database, caller, session.id)
        assert after.status is Status.ENDED
        assert after.end_reason is EndReason.REQUESTED
        assert True in winners
        assert {type(loser) for loser in losers} <= {SessionEnded}
        assert after.title == (None if losers else "new")
        await assert_sound(database, session.id)

    await asyncio.gather(*(one_round(session, n) for n, session in enumerate(standing)))


@pytest.mark.parametrize(
    ("path", "move", "status"),
    [
        ([], Move.ACTIVATE, Status.ACTIVE),
        ([Move.ACTIVATE], Move.SUSPEND, Status.SUSPENDED),
        ([Move.ACTIVATE, Move.SUSPEND], Move.ACTIVATE, Status.ACTIVE),
        ([Move.ACTIVATE, Move.SUSPEND], Move.RESUME, Status.ACTIVE),
    ],
)
async def test_of_twenty_racers_of_a_move_one_wins(
    database: Database, caller: Caller, path: list[Move], move: Move, status: Status
):
    session = await opened(database, caller, activate=False)
    for step in path:
        await moved(database, caller, session.id, step)
    before = await told_of(database, session.id)

    winners, losers = await raced(moved(database, caller, session.id, move) for _ in range(RACERS))

    assert [winner.status for winner in winners] == [status]
    assert {type(loser) for loser in losers} == {InvalidTransition}
    assert {loser.extras["current_status"] for loser in losers} == {status}
    assert len(await told_of(database, session.id)) == len(before) + 1
    await assert_sound(database, session.id)


async def test_of_twenty_that_end_a_session_one_does_and_the_others_change_nothing(database: Database, caller: Caller):
    session = await opened(database, caller)

    answers = await asyncio.gather(*(ended(database, caller, session.id) for _ in range(RACERS)))

    assert sorted(answers) == [False] * (RACERS - 1) + [True]
    assert (await told_of(database, session.id)).count("session.ended") == 1
    await assert_sound(database, session.id)


async def test_an_ended_session_takes_no_message_however_close_the_race(database: Database, caller: Caller):
    session = await opened(database, caller)

    winners, _ = await raced(
        ended(database, caller, session.id) if n == RACERS // 2 else said(database, caller, session.id, f"{n}")
        for n in range(RACERS)
    )

    after = await read(database, caller, session.id)
    assert after.status is Status.ENDED
    assert after.message_count == len(winners) - 1
    assert (await told_of(database, session.id))[-1] == "session.ended"
    await assert_sound(database, session.id)


async def test_activate_and_resume_give_the_full_time_again_and_a_patch_or_a_rest_does_not(
    database: Database, caller: Caller
):
    session = await opened(database, caller, activate=False, config=SessionConfig(timeout_minutes=10))

    active = await moved(database, caller, session.id, Move.ACTIVATE)
    patched, _ = await changed(database, caller, session.id, config={"timeout_minutes": 20})
    resting = await moved(database, caller, session.id, Move.SUSPEND)
    resumed = await moved(database, caller, session.id, Move.RESUME)
    (message,) = await said(database, caller, session.id, "hello")
    after = await read(database, caller, session.id)

    assert active.expires_at == active.updated_at + timedelta(minutes=10)
    assert active.expires_at == patched.expires_at == resting.expires_at
    assert resumed.expires_at == resumed.updated_at + timedelta(minutes=20)
    assert after.expires_at == message.created_at + timedelta(minutes=20)
    assert [row.version for row in (active, patched, resting, resumed, after)] == [2, 3, 4, 5, 6]


async def test_of_twenty_that_open_a_session_by_the_same_name_one_does_and_all_get_it(
    database: Database, caller: Caller
):
    async def open_one() -> tuple[Session, bool]:
        async with database.begin() as tx:
            return await open_session(tx, caller, opening(external_id="mine", return_existing=True), CAUSE)

    answers = await asyncio.gather(*(open_one() for _ in range(RACERS)))

    assert [is_new for _, is_new in answers].count(True) == 1
    assert len({session.id for session, _ in answers}) == 1
    assert await told_of(database, answers[0][0].id) == ["session.created", "session.activated"]


async def test_a_name_that_is_taken_is_refused_to_the_same_user_alone(database: Database, tenant: str):
    session = await opened(database, service_of(tenant), user_id="user-1", external_id="mine")

    for caller in (service_of(tenant), user_of(tenant, "user-1")):
        with pytest.raises(AlreadyExists) as refused:
            await opened(database, caller, user_id="user-1", external_id="mine")
        assert refused.value.extras == {"external_id": "mine"}
    for tenant_id, user_id in ((tenant, "user-2"), (f"{tenant}-other", "user-1")):
        other = await opened(database, service_of(tenant_id), user_id=user_id, external_id="mine", return_existing=True)
        assert (other.id != session.id, other.user_id) == (True, user_id)


async def test_a_purged_session_leaves_no_row_anywhere(database: Database, caller: Caller):
    erased, kept = [await opened(database, caller, system_prompt="Be kind.") for _ in range(2)]
    for session in (erased, kept):
        (message,) = await said(database, caller, session.id, "words")
        await asked(database, caller, session.id, "tool")
        await filed(database, caller, session.id)
        async with database.begin() as tx:
            await delete_message(tx, caller, session.id, message.id, CAUSE)
            key = session.id.bytes * 2
            await idempotency.claim(tx, key, caller.tenant_id)
            await idempotency.keep(tx, key, status=200, headers={}, body=b"x", about=About(session_id=session.id))
        await query(database, WATCHED_AND_DELIVERED, caller.tenant_id, session.id)
    before = await rows_of(database, kept.id)
    assert all(before.values()), f"a table without a row of the session: {before}"

    await purged(database, caller, erased.id)

    assert await rows_of(database, erased.id) == dict.fromkeys(before, 0)
    assert await rows_of(database, kept.id) == before
    with pytest.raises(SessionNotFound):
        await purged(database, caller, erased.id)


WATCHED_AND_DELIVERED = """
    WITH placed AS (
        INSERT INTO event_positions (tenant_id, position, session_id, event_seq, user_id)
        SELECT $1, coalesce(max(position), 0) + 1, $2, 1, 'user-1' FROM event_positions
    ), watched AS (
        INSERT INTO stream_tickets (digest, tenant_id, session_id, subject, caller_kind, expires_at)
        VALUES (uuid_send($2), $1, $2, 'service', 'service', now() + interval '1 minute')
    )
    INSERT INTO webhook_deliveries (id, tenant_id, endpoint_id, session_id, event_seq, event_id, event_type, status,
                                    attempt_count, is_in_flight, lease_token, created_at)
    VALUES (gen_random_uuid(), $1, gen_random_uuid(), $2, 1, gen_random_uuid(), 'session.created', 'pending', 0, false,
            0, now())
    RETURNING 1
"""
"""As if the session's first event had been relayed, to somebody who watches and to somebody's webhook."""


async def rows_of(database: Database, session_id: UUID) -> dict[str, int]:
    """The number of a session's rows in every table that has any."""
    tables = await query(
        database,
        "SELECT table_name FROM information_schema.columns "
        "WHERE table_schema = 'public' AND column_name = 'session_id' ORDER BY 1",
    )
    columns = {"sessions": "id"} | {row["table_name"]: "session_id" for row in tables}
    return {
        table: (await query(database, f"SELECT count(*) FROM {table} WHERE {column} = $1", session_id))[0][0]
        for table, column in columns.items()
    }


async def test_what_is_said_while_a_session_is_purged_leaves_nothing(database: Database, caller: Caller):
    session = await opened(database, caller)

    _, losers = await raced(
        purged(database, caller, session.id) if n == RACERS // 2 else said(database, caller, session.id, f"{n}")
        for n in range(RACERS)
    )

    assert {type(loser) for loser in losers} <= {SessionNotFound}
    assert set((await rows_of(database, session.id)).values()) == {0}
    await assert_sound(database, session.id)
