"""Any number of people may decide on a call at once: one of them does, and the record says which."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from conversations import CAUSE, a_lock_is_awaited, acted, asked, let_its_time_pass, opened, query
from invariants import violations
from rounds import rounds

from service.commands.messages import append_messages, delete_message
from service.commands.sessions import end_session, expire_sessions
from service.commands.tool_calls import expire_tool_call
from service.domain.caller import Caller, CallerKind
from service.domain.errors import AlreadyDecided, DomainError, InvalidTransition, SessionExpired
from service.domain.message import MessageDraft, Role
from service.domain.session import SessionConfig
from service.domain.tool_call import CallStatus, ToolCall
from service.store import sessions, tool_calls
from service.store.engine import Database
from workers.jobs.expire_sessions import sweep_expired_sessions
from workers.jobs.expire_tool_calls import sweep_late_tool_calls

RACERS = 20
RACES = rounds(30)
"""A lock that fails in one race of five is missed by 6 races in 26 % of all runs, by 30 in 0.1 %."""
SWEEP_MAX = 1000
QUICK = SessionConfig(approval_timeout_seconds=1)


def person(caller: Caller, name: str) -> Caller:
    return Caller(caller.tenant_id, name, CallerKind.SERVICE, caller.scopes)


async def outcome(database: Database, caller: Caller, call: ToolCall, action: str) -> ToolCall | DomainError:
    try:
        return await acted(database, caller, call, action)
    except DomainError as refusal:
        return refusal


async def shown(database: Database, caller: Caller, call: ToolCall) -> ToolCall:
    async with database.connect() as tx:
        _, found = await tool_calls.get(tx, caller, call.session_id, call.id)
    assert found is not None
    return found


async def told_of(database: Database, session_id: UUID) -> list[str]:
    rows = await query(database, "SELECT type FROM events WHERE session_id = $1 ORDER BY seq", session_id)
    return [row["type"] for row in rows if not row["type"].startswith(("session.created", "session.activated"))]


async def pending_count(database: Database, session_id: UUID) -> int:
    rows = await query(database, "SELECT pending_tool_call_count FROM sessions WHERE id = $1", session_id)
    return int(rows[0][0])


async def assert_sound(database: Database, session_id: UUID | None = None) -> None:
    async with database.connect() as tx:
        assert await violations(tx._connection, session_id) == []


async def let_it_be_late(database: Database, call: ToolCall) -> None:
    await query(
        database,
        "UPDATE tool_calls SET expires_at = statement_timestamp() - interval '1 second' WHERE id = $1",
        call.id,
    )


async def test_of_twenty_that_approve_and_reject_one_call_exactly_one_wins(database: Database, caller: Caller):
    session = await opened(database, caller)
    for _ in range(RACES):
        (call,) = await asked(database, caller, session.id, "shell")
        answers = await asyncio.gather(
            *(
                outcome(database, person(caller, f"p{n}"), call, ("approve", "reject")[n % 2])
                for n in range(RACERS)
            )
        )  # fmt: skip

        (won,) = (answer for answer in answers if isinstance(answer, ToolCall))
        lost = [answer for answer in answers if isinstance(answer, AlreadyDecided)]
        assert len(lost) == RACERS - 1
        assert won == await shown(database, caller, call)
        assert all(
            refusal.extras["decision"]
            == {"status": won.status, "decided_by": won.decided_by, "decided_at": won.decided_at}
            for refusal in lost
        )
    assert await pending_count(database, session.id) == 0
    assert len(await told_of(database, session.id)) == 3 * RACES
    await assert_sound(database, session.id)


async def test_one_person_who_decides_twenty_times_at_once_decides_once(database: Database, caller: Caller):
    session = await opened(database, caller)
    (call,) = await asked(database, caller, session.id, "shell")

    answers = await asyncio.gather(*(acted(database, caller, call, "approve") for _ in range(RACERS)))

    assert [answer == answers[0] for answer in answers] == [True] * RACERS
    assert (await told_of(database, session.id)).count("tool_call.approved") == 1


async def test_a_decision_and_the_end_of_the_session_come_one_after_the_other(database: Database, caller: Caller):
    async def end(session_id: UUID) -> None:
        async with database.begin() as tx:
            await end_session(tx, caller, session_id, None, CAUSE)

    for _ in range(RACES):
        session = await opened(database, caller)
        (call,) = await asked(database, caller, session.id, "shell")
        decided, _ = await asyncio.gather(outcome(database, caller, call, "approve"), end(session.id))

        now = await shown(database, caller, call)
        assert now.status is CallStatus.CANCELLED
        if isinstance(decided, ToolCall):
            assert now.decided_by == caller.subject
        else:
            assert isinstance(decided, InvalidTransition)
            assert now.decided_by is None
        assert (await told_of(database, session.id))[-2:] == ["tool_call.cancelled", "session.ended"]
        await assert_sound(database, session.id)


async def test_after_its_deadline_no_approval_is_taken_whether_or_not_a_sweep_has_run(
    own_database: Database, caller: Caller
):
    for _ in range(RACES):
        session = await opened(own_database, caller, config=QUICK)
        (call,) = await asked(own_database, caller, session.id, "shell")
        await let_it_be_late(own_database, call)
        before = await shown(own_database, caller, call)
        refused, *_ = await asyncio.gather(
            outcome(own_database, caller, call, "approve"),
            sweep_late_tool_calls(own_database),
            sweep_late_tool_calls(own_database),
        )

        assert isinstance(refused, InvalidTransition)
        assert refused.extras == {"current_status": CallStatus.EXPIRED, "allowed": []}
        assert before == await shown(own_database, caller, call)
        assert (before.status, before.decided_by) == (CallStatus.EXPIRED, None)
        assert (await told_of(own_database, session.id)).count("tool_call.expired") == 1
        assert await pending_count(own_database, session.id) == 0
    await assert_sound(own_database)


async def test_an_approval_that_waited_for_its_turn_past_the_deadline_is_late(own_database: Database, caller: Caller):
    session = await opened(own_database, caller)
    (call,) = await asked(own_database, caller, session.id, "shell")
    async with own_database.begin() as tx:
        await sessions.lock(tx, caller, session.id)
        approving = asyncio.create_task(outcome(own_database, caller, call, "approve"))
        await a_lock_is_awaited(own_database)
        await query(own_database, "UPDATE tool_calls SET expires_at = clock_timestamp() WHERE id = $1", call.id)
        seen = await shown(own_database, caller, call)
    refused = await approving

    assert seen.status is CallStatus.EXPIRED
    assert isinstance(refused, InvalidTransition)
    assert await shown(own_database, caller, call) == seen


async def test_an_end_that_waited_for_its_turn_past_a_deadline_finds_that_call_expired(
    own_database: Database, caller: Caller
):
    session = await opened(own_database, caller)
    late, waiting = await asked(own_database, caller, session.id, "a", "b")

    async def end() -> None:
        async with own_database.begin() as tx:
            await end_session(tx, caller, session.id, None, CAUSE)

    async with own_database.begin() as tx:
        await sessions.lock(tx, caller, session.id)
        ending = asyncio.create_task(end())
        await a_lock_is_awaited(own_database)
        await query(own_database, "UPDATE tool_calls SET expires_at = clock_timestamp() WHERE id = $1", late.id)
        seen = await shown(own_database, caller, late)
    await ending

    assert seen.status is CallStatus.EXPIRED
    assert await shown(own_database, caller, late) == seen
    assert (await shown(own_database, caller, waiting)).status is CallStatus.CANCELLED
    assert (await told_of(own_database, session.id))[-3:] == [
        "tool_call.expired", "tool_call.cancelled", "session.ended",
    ]  # fmt: skip
    await assert_sound(own_database, session.id)


async def test_approvals_at_the_very_deadline_are_taken_or_expire_but_never_both(
    own_database: Database, caller: Caller
):
    session = await opened(own_database, caller)
    calls = [call for _ in range(RACES) for call in await asked(own_database, caller, session.id, "shell")]
    await query(
        own_database,
        "UPDATE tool_calls SET expires_at = clock_timestamp() + random() * interval '400 ms'",
    )

    async def approve_soon(call: ToolCall) -> ToolCall | DomainError:
        await asyncio.sleep(0.015 * (call.id.int % 29))
        return await outcome(own_database, caller, call, "approve")

    async def sweep_until(settled: asyncio.Future[list[ToolCall | DomainError]]) -> None:
        while not settled.done():
            await sweep_late_tool_calls(own_database)

    approving = asyncio.gather(*(approve_soon(call) for call in calls))
    await asyncio.gather(approving, sweep_until(approving), sweep_until(approving))
    await sweep_late_tool_calls(own_database)

    for call, answer in zip(calls, approving.result(), strict=True):
        taken = isinstance(answer, ToolCall)
        assert (await shown(own_database, caller, call)).status == ("approved" if taken else "expired")
    await assert_sound(own_database)


async def test_a_session_whose_time_is_over_takes_its_open_calls_with_it_as_readers_saw_it(
    own_database: Database, caller: Caller
):
    """What was late before the session was over has expired; the rest is cancelled, before and after the sweep."""
    session = await opened(own_database, caller)
    late, waiting, done = await asked(own_database, caller, session.id, "a", "b", "c")
    (approved,) = await asked(own_database, caller, session.id, "d")
    await acted(own_database, caller, approved, "approve", reason="careful")
    await acted(own_database, caller, done, "reject")
    await query(own_database, "UPDATE tool_calls SET expires_at = created_at WHERE id = $1", late.id)
    await query(own_database, "UPDATE tool_calls SET expires_at = now() + interval '9 h' WHERE id = $1", waiting.id)
    await let_its_time_pass(own_database, session.id)
    await query(
        own_database,
        """UPDATE tool_calls SET expires_at = statement_timestamp() - interval '1 ms' WHERE id = $1""",
        waiting.id,
    )
    calls = [late, waiting, done, approved]
    seen = [await shown(own_database, caller, call) for call in calls]

    assert await sweep_late_tool_calls(own_database) == 0
    async with own_database.begin() as tx:
        assert not await expire_tool_call(tx, caller.tenant_id, session.id, late.id)
    with pytest.raises(SessionExpired):
        await acted(own_database, caller, waiting, "approve")
    assert await sweep_expired_sessions(own_database) == 1

    assert [call.status.value for call in seen] == ["expired", "cancelled", "rejected", "cancelled"]
    assert [(call.reason, call.error) for call in seen[1:]] == [
        ("the session expired", None), (None, None), ("careful", "the session expired"),
    ]  # fmt: skip
    assert [await shown(own_database, caller, call) for call in calls] == seen
    assert (await told_of(own_database, session.id))[-4:] == [
        "tool_call.expired", "tool_call.cancelled", "tool_call.cancelled", "session.expired",
    ]  # fmt: skip
    await assert_sound(own_database)


async def test_sweepers_of_sessions_and_of_calls_among_deciders_leave_everything_sound(
    own_database: Database, caller: Caller
):
    standing = [await opened(own_database, caller, config=QUICK) for _ in range(RACERS)]
    calls = [call for session in standing for call in await asked(own_database, caller, session.id, "a", "b")]
    await query(
        own_database, "UPDATE sessions SET expires_at = clock_timestamp() + random() * interval '500 ms'"
    )  # fmt: skip
    await query(own_database, "UPDATE tool_calls SET expires_at = clock_timestamp() + random() * interval '500 ms'")

    async def sweep_sessions() -> None:
        async with own_database.begin() as tx:
            await expire_sessions(tx, caller.tenant_id, SWEEP_MAX)

    async def decide(call: ToolCall) -> None:
        await asyncio.sleep(0.02 * (call.id.int % 29))
        await outcome(own_database, caller, call, "approve")

    async def sweep_until(deciding: asyncio.Future[list[None]]) -> None:
        while not deciding.done():
            await sweep_sessions()
            await sweep_late_tool_calls(own_database)

    deciding = asyncio.gather(*(decide(call) for call in calls))
    await asyncio.gather(deciding, sweep_until(deciding), sweep_until(deciding))
    await assert_sound(own_database)


async def test_of_twenty_results_one_is_taken_and_the_session_keeps_one_message_for_it(
    database: Database, caller: Caller
):
    session = await opened(database, caller)
    (call,) = await asked(database, caller, session.id, "search", requires_approval=False)

    async def tell(n: int) -> bool:
        draft = MessageDraft(role=Role.TOOL, tool_call_id=str(call.id), content=f"{n}")
        try:
            async with database.begin() as tx:
                await append_messages(tx, caller, session.id, [draft], CAUSE)
        except InvalidTransition:
            return False
        return True

    told = await asyncio.gather(*(tell(n) for n in range(RACERS)))

    assert told.count(True) == 1
    assert bytes((await shown(database, caller, call)).result or b"") == f'"{told.index(True)}"'.encode()
    async with database.connect() as tx:
        now = await sessions.get(tx, caller, session.id)
    assert now is not None
    assert now.message_count == 2
    await assert_sound(database, session.id)


async def test_a_deleted_message_takes_its_open_calls_with_it(database: Database, caller: Caller):
    session = await opened(database, caller)
    open_call, done = await asked(database, caller, session.id, "a", "b")
    (other,) = await asked(database, caller, session.id, "c")
    await acted(database, caller, done, "reject")
    async with database.begin() as tx:
        await delete_message(tx, caller, session.id, open_call.message_id, CAUSE)

    assert [(await shown(database, caller, call)).status.value for call in (open_call, done, other)] == [
        "cancelled", "rejected", "pending",
    ]  # fmt: skip
    assert await pending_count(database, session.id) == 1
    await assert_sound(database, session.id)
