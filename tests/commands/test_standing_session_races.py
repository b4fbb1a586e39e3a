"""A session that is found by its `external_id` stands until the answer that shows it is kept."""

from __future__ import annotations

import asyncio

from conversations import CAUSE, a_lock_is_awaited, opened, opening, query

from service.commands.sessions import open_session, purge_session
from service.domain.caller import Caller
from service.store.engine import Database


async def test_a_purge_waits_for_who_was_given_the_standing_session(own_database: Database, caller: Caller):
    session = await opened(own_database, caller, external_id="mine")

    async def purge() -> None:
        async with own_database.begin() as tx:
            await purge_session(tx, caller, session.id)

    async with own_database.begin() as finder:
        found, is_new = await open_session(finder, caller, opening(external_id="mine", return_existing=True), CAUSE)
        purging = asyncio.create_task(purge())
        await a_lock_is_awaited(own_database)
    await purging

    assert (found.id, is_new) == (session.id, False)
    assert await query(own_database, "SELECT FROM sessions") == []
