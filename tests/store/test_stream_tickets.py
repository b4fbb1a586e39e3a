"""Tickets for streams: each opens its one stream once, within its minute, however many come with it."""

from __future__ import annotations

import asyncio
from uuid import UUID

from conversations import opened, query

from service.commands.tickets import issue_ticket, read_ticket, use_ticket
from service.domain.caller import Caller
from service.domain.errors import Unauthenticated
from service.domain.ticket import Credential
from service.store.engine import Database

RACERS = 20


async def issued(database: Database, caller: Caller, session_id: UUID | None) -> str:
    async with database.connect() as tx:
        return (await issue_ticket(tx, Credential(caller), session_id)).ticket


async def is_taken(database: Database, ticket: str, session_id: UUID | None) -> bool:
    try:
        async with database.connect() as tx:
            await read_ticket(tx, ticket, session_id)
            await use_ticket(tx, ticket, session_id)
    except Unauthenticated:
        return False
    return True


async def test_of_twenty_that_come_with_one_ticket_one_is_let_in(database: Database, caller: Caller):
    session = await opened(database, caller)
    ticket = await issued(database, caller, session.id)

    taken = await asyncio.gather(*(is_taken(database, ticket, session.id) for _ in range(RACERS)))

    assert taken.count(True) == 1
    assert not await is_taken(database, ticket, session.id)


async def test_a_ticket_for_one_stream_opens_no_other_and_is_not_used_up_by_the_attempt(
    database: Database, caller: Caller
):
    session, other = await opened(database, caller), await opened(database, caller)
    ticket, of_all = await issued(database, caller, session.id), await issued(database, caller, None)

    assert not await is_taken(database, ticket, other.id)
    assert not await is_taken(database, ticket, None)
    assert not await is_taken(database, of_all, session.id)
    assert await is_taken(database, ticket, session.id)
    assert await is_taken(database, of_all, None)


async def test_a_ticket_is_worth_nothing_from_the_moment_at_which_its_minute_is_over(
    own_database: Database, caller: Caller
):
    ticket = await issued(own_database, caller, None)
    await query(own_database, "UPDATE stream_tickets SET expires_at = clock_timestamp()")

    assert not await is_taken(own_database, ticket, None)
