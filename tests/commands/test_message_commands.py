from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import msgspec
import pytest
from conversations import CAUSE, asked, let_its_time_pass, opened, query, said
from invariants import violations

from service.commands.messages import append_messages, delete_message
from service.commands.sessions import end_session, expire_sessions
from service.domain.caller import Caller
from service.domain.errors import (
    DomainError,
    MessageLimitExceeded,
    SessionNotActive,
)
from service.domain.message import Message, MessageDraft, Role, Usage
from service.domain.session import SessionConfig
from service.ids import new_id
from service.store import idempotency, messages
from service.store.engine import Database
from service.store.idempotency import About

RACERS = 20


async def deleted(database: Database, caller: Caller, session_id: UUID, message_id: UUID) -> bool:
    async with database.begin() as tx:
        return await delete_message(tx, caller, session_id, message_id, CAUSE)


async def read(database: Database, caller: Caller, session_id: UUID, message_id: UUID) -> Message:
    async with database.connect() as tx:
        _, message = await messages.get(tx, caller, session_id, message_id)
    assert message is not None
    return message


async def everything_as_text(database: Database) -> dict[str, str]:
    """Every table as PostgreSQL writes it; bytes as hexadecimal digits."""
    tables = await query(database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {
        row[0]: str(await query(database, f"SELECT coalesce(string_agg(t::text, ' '), '') FROM {row[0]} t"))
        for row in tables
    }


async def test_a_deleted_message_leaves_its_words_nowhere(own_database: Database, caller: Caller):
    word = "unmistakable"
    session = await opened(own_database, caller)
    draft = MessageDraft(content=f"{word} text", metadata={word: word}, usage=Usage(input_tokens=123_454_321))
    async with own_database.begin() as tx:
        await idempotency.claim(tx, b"key", caller.tenant_id)
        first, second = await append_messages(tx, caller, session.id, [draft, MessageDraft(content="harmless")], CAUSE)
        answer, about = msgspec.json.encode([first, second]), About(session.id, [first.id, second.id])
        await idempotency.keep(tx, b"key", status=201, headers={}, body=answer, about=about)
    before = await everything_as_text(own_database)

    assert await deleted(own_database, caller, session.id, first.id)

    after = await everything_as_text(own_database)
    for trace in (word, word.encode().hex(), "123454321"):
        assert any(trace in text for text in before.values()), f"{trace} was nowhere: nothing was tested"
        assert [table for table, text in after.items() if trace in text] == []
    assert "harmless" in after["messages"]


async def test_of_twenty_that_delete_a_message_one_does_and_the_others_change_nothing(
    database: Database, caller: Caller
):
    session = await opened(database, caller)
    (message,) = await said(database, caller, session.id, "words")

    answers = await asyncio.gather(*(deleted(database, caller, session.id, message.id) for _ in range(RACERS)))

    assert sorted(answers) == [False] * (RACERS - 1) + [True]
    await assert_sound(database, session.id)


async def over(database: Database, caller: Caller, session_id: UUID, how: str) -> None:
    """Let a session be over: by request, by time, or by time and recorded by the sweep."""
    if how == "ended":
        async with database.begin() as tx:
            await end_session(tx, caller, session_id, None, CAUSE)
        return
    await let_its_time_pass(database, session_id)
    if how == "expired and swept":
        async with database.begin() as tx:
            await expire_sessions(tx, caller.tenant_id, 10)


@pytest.mark.parametrize("how", ["ended", "expired", "expired and swept"])
async def test_a_message_of_a_session_that_is_over_is_erased_and_no_event_follows_the_end(
    database: Database, caller: Caller, how: str
):
    session = await opened(database, caller)
    gone, stays = await said(database, caller, session.id, "a password", "words")
    await over(database, caller, session.id, how)

    assert await deleted(database, caller, session.id, gone.id) is True
    assert await deleted(database, caller, session.id, gone.id) is False

    rows = await query(database, "SELECT type FROM events WHERE session_id = $1 ORDER BY seq DESC LIMIT 2", session.id)
    end = "session.ended" if how == "ended" else "session.expired"
    assert [row["type"] for row in rows] == [end, "message.created"]
    assert (await read(database, caller, session.id, gone.id)).content == msgspec.Raw(b"null")
    assert (await read(database, caller, session.id, stays.id)).content == stays.content
    await assert_sound(database, session.id)


async def test_the_end_that_an_erasure_records_is_not_recorded_again_by_the_sweep(
    own_database: Database, caller: Caller
):
    session = await opened(own_database, caller)
    (call,) = await asked(own_database, caller, session.id, "tool")
    await let_its_time_pass(own_database, session.id)

    assert await deleted(own_database, caller, session.id, call.message_id) is True

    async with own_database.begin() as tx:
        assert await expire_sessions(tx, caller.tenant_id, 10) == []
    await assert_sound(own_database, session.id)


async def test_a_deleted_result_is_gone_from_the_kept_answers_that_show_its_call(
    own_database: Database, caller: Caller
):
    word = "unmistakable"
    session = await opened(own_database, caller)
    (call,) = await asked(own_database, caller, session.id, "tool", requires_approval=False)
    draft = MessageDraft(role=Role.TOOL, content=word, tool_call_id=str(call.id))
    async with own_database.begin() as tx:
        (result,) = await append_messages(tx, caller, session.id, [draft], CAUSE)
        await idempotency.claim(tx, b"key", caller.tenant_id)
        about = About(session.id, [call.message_id, call.id])
        await idempotency.keep(tx, b"key", status=200, headers={}, body=word.encode(), about=about)

    await deleted(own_database, caller, session.id, result.id)

    assert [row["body"] for row in await query(own_database, "SELECT body FROM idempotency_keys")] == [None]


async def test_the_state_is_named_before_the_parent(database: Database, caller: Caller):
    session = await opened(database, caller, activate=False)

    async with database.connect() as tx:
        with pytest.raises(SessionNotActive):
            await append_messages(tx, caller, session.id, [MessageDraft(content="x", parent_id=new_id())], CAUSE)


async def test_appends_deletions_and_children_at_once_keep_the_story_sound(database: Database, caller: Caller):
    session = await opened(database, caller, config=SessionConfig(max_messages=30))
    standing = await said(database, caller, session.id, *(f"standing {n}" for n in range(10)))

    async def speak(n: int) -> Any:
        async with database.connect() as tx:
            draft = MessageDraft(content="reply", parent_id=standing[n % 10].id)
            return await append_messages(tx, caller, session.id, [draft] * (1 + n % 3), CAUSE)

    outcomes = await asyncio.gather(
        *(speak(n) for n in range(30)),
        *(deleted(database, caller, session.id, message.id) for message in standing * 2),
        return_exceptions=True,
    )

    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert all(isinstance(outcome, DomainError) for outcome in refused)
    assert {type(outcome) for outcome in refused} <= {MessageLimitExceeded}
    assert outcomes[30:].count(True) == len(standing)
    await assert_sound(database, session.id)


async def assert_sound(database: Database, session_id: UUID) -> None:
    async with database.connect() as tx:
        assert await violations(tx._connection, session_id) == []
