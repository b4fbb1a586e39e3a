"""When keys were used last is noted in memory, and written by and by."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from conversations import a_lock_is_awaited, query

from service.commands.api_keys import KeyWish, create_api_key
from service.domain.caller import Caller, CallerKind, Scope
from service.domain.ticket import Credential
from service.handlers.key_uses import KeyUses
from service.store.engine import Database


async def test_a_use_whose_writing_was_cut_off_is_written_the_next_time(own_database: Database):
    async with own_database.begin() as tx:
        wish = KeyWish(tenant_id="tenant-1", name="agent", user_id=None, scopes=[Scope.SESSIONS_READ], lifetime=None)
        key, _ = await create_api_key(tx, wish)
    caller = Caller("tenant-1", "agent", CallerKind.SERVICE, frozenset({Scope.SESSIONS_READ}))
    uses = KeyUses(own_database)
    uses.note(Credential(caller, key_id=key.id))
    async with own_database.begin() as tx:
        await tx._connection.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        writing = asyncio.create_task(uses.write())
        await a_lock_is_awaited(own_database, by=writing)
        writing.cancel()
        with suppress(asyncio.CancelledError):
            await writing
    await uses.write()

    (row,) = await query(own_database, "SELECT last_used_at FROM api_keys")
    assert row["last_used_at"] is not None
