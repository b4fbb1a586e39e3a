from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import msgspec
import pytest
from conversations import CAUSE, opened, query, said
from invariants import violations

from service.commands.messages import append_messages, delete_message
from service.commands.sessions import end_session
from service.domain.caller import Caller
from service.domain.errors import (
    DomainError,
    MessageLimitExceeded,
    SessionEnded,
    SessionNotActive,
)
from service.domain.message import Message, MessageDraft, Usage
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
        await idempotency.claim(tx, b"key", caller.tenant_id, b"f")
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


async def test_an_ended_session_keeps_its_messages_and_deleting_a_deleted_one_again_is_no_change(
    database: Database, caller: Caller
):
    session = await opened(database, caller)
    gone, kept = await said(database, caller, session.id, "one", "two")
    await deleted(database, caller, session.id, gone.id)
    async with database.begin() as tx:
        await end_session(tx, caller, session.id, None, CAUSE)

    assert await deleted(database, caller, session.id, gone.id) is False
    with pytest.raises(SessionEnded):
        await deleted(database, caller, session.id, kept.id)
    assert await read(database, caller, session.id, kept.id) == kept


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
