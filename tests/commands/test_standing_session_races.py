"""A session that is found by its `external_id` stands until the answer is kept; one that ends meanwhile frees it."""

from __future__ import annotations

import asyncio

from conversations import CAUSE, a_lock_is_awaited, let_its_time_pass, opened, opening, query

from service.commands.sessions import end_session, open_session, purge_session
from service.domain.caller import Caller
from service.domain.session import Session
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


async def test_who_opens_a_session_while_the_one_of_its_name_ends_waits_and_gets_a_new_one(
    own_database: Database, caller: Caller
):
    session = await opened(own_database, caller, external_id="mine")

    async with own_database.begin() as ender:
        await end_session(ender, caller, session.id, None, CAUSE)
        opening_ = asyncio.create_task(found_or_opened(own_database, caller))
        await a_lock_is_awaited(own_database)
    other, is_new = await opening_

    assert (is_new, other.id == session.id) == (True, False)


async def test_of_twenty_that_open_a_session_by_the_name_of_one_whose_time_is_over_one_ends_it_and_one_opens(
    own_database: Database, caller: Caller
):
    session = await opened(own_database, caller, external_id="mine")
    await let_its_time_pass(own_database, session.id)

    answers = await asyncio.gather(*(found_or_opened(own_database, caller) for _ in range(20)))

    assert [is_new for _, is_new in answers].count(True) == 1
    assert len({found.id for found, _ in answers} - {session.id}) == len({found.id for found, _ in answers}) == 1
    told = await query(own_database, "SELECT type FROM events WHERE session_id = $1 ORDER BY seq", session.id)
    assert [row["type"] for row in told][-1] == "session.expired"
    assert len(told) == 3


async def found_or_opened(database: Database, caller: Caller) -> tuple[Session, bool]:
    async with database.begin() as tx:
        return await open_session(tx, caller, opening(external_id="mine", return_existing=True), CAUSE)
