from __future__ import annotations

import msgspec
from conversations import opened

from service.domain.caller import Caller
from service.domain.session import Session, SessionConfig
from service.store import session_rows, sessions
from service.store.engine import Database


def test_the_columns_of_a_session_are_its_fields_in_their_order():
    assert [column.name for column in session_rows.COLUMNS] == [field.name for field in msgspec.structs.fields(Session)]


async def test_a_new_session_reads_as_it_was_answered(database: Database, caller: Caller):
    session = await opened(
        database,
        caller,
        title="é\U0001f600",
        external_id="mine",
        config=SessionConfig(max_messages=7, timeout_minutes=43_200, allowed_tools=["a*"]),
        metadata={"float": 1.5, "null": None, "nested": {"list": []}},
        tags=["b", "a", "b"],
        system_prompt="Be kind.",
    )
    async with database.connect() as tx:
        read = await sessions.get(tx, caller, session.id)

    assert read == session
    assert session.message_count == 1
    assert session.last_message_at == session.created_at == session.updated_at
    assert (session.expires_at - session.created_at).total_seconds() == 43_200 * 60
