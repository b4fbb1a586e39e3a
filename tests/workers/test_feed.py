"""The order of events across sessions: complete, and never joined later by what a reader has passed already."""

from __future__ import annotations

import asyncio
import random

from conversations import CAUSE, a_lock_is_awaited, opened, query, said, service_of, user_of
from rounds import rounds

from service.commands.messages import append_messages
from service.commands.relay import relay_batch
from service.commands.sessions import purge_session
from service.domain.message import MessageDraft
from service.store import feed, outbox
from service.store.engine import Database
from service.store.feed import View
from workers.jobs.relay_events import Relay

TENANT = "tenant"
CALLER = service_of(TENANT)
SESSIONS = 6
WRITERS = 10
ROUNDS = rounds(25)
"""Of each writer: a hole that one transaction in twenty makes is missed by 50 in 8 % of all runs, by 250 in none."""
HELD_SECONDS_MAX = 0.03
PAGE = 7
"""Small, so that readers stand everywhere while writers commit."""


class Undo(Exception):
    """Rolls a writer's transaction back."""


def undo_if(unlucky: bool) -> None:
    if unlucky:
        raise Undo


class Reader:
    """Follows a view from its beginning, as a stream does: always behind what it has seen last."""

    def __init__(self, database: Database, view: View) -> None:
        self.database, self.view = database, view
        self.position = 0
        self.seen: list[tuple[str, int]] = []

    async def read(self) -> int:
        async with self.database.connect() as tx:
            page = await feed.page(tx, self.view, after=self.position, limit=PAGE)
        for position, event in page:
            assert position > self.position
            self.position = position
            self.seen.append((str(event.session_id), event.seq))
        return len(page)

    async def read_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.read()
            await asyncio.sleep(0)
        while await self.read():
            continue


async def test_readers_skip_nothing_while_writers_hold_their_transactions_open(own_database: Database):
    """Ids are taken early and committed late, in any order, or never: the order that readers see has no such holes."""
    dice = random.Random(7)  # noqa: S311 - no secret
    users = [f"user-{n % 2}" for n in range(SESSIONS)]
    sessions = [await opened(own_database, CALLER, user_id=user) for user in users]
    stop = asyncio.Event()

    async def write(number: int) -> None:
        for _ in range(ROUNDS):
            session = dice.choice(sessions)
            try:
                async with own_database.begin() as tx:
                    await append_messages(
                        tx, CALLER, session.id, [MessageDraft(content="x")] * dice.randint(1, 3), CAUSE
                    )
                    await asyncio.sleep(dice.uniform(0, HELD_SECONDS_MAX))
                    undo_if(dice.random() < 0.2)
            except Undo:
                continue

    async def relay() -> None:
        relay = Relay(own_database)
        while not stop.is_set():
            await relay.drain()
            await asyncio.sleep(0.002)

    readers = [Reader(own_database, View(TENANT, user)) for user in (None, "user-0", "user-1")]
    working = [asyncio.create_task(relay()) for _ in range(2)]
    working += [asyncio.create_task(reader.read_until(stop)) for reader in readers]
    await asyncio.gather(*(write(n) for n in range(WRITERS)))
    await Relay(own_database).drain()
    stop.set()
    await asyncio.gather(*working)

    everything = await query(
        own_database,
        "SELECT CAST(e.session_id AS text), e.seq, s.user_id FROM events e JOIN sessions s ON s.id = e.session_id",
    )
    for reader in readers:
        expected = sorted((row[0], row[1]) for row in everything if reader.view.user_id in {None, row[2]})
        assert sorted(reader.seen) == expected
        for session in sessions:
            seqs = [seq for session_id, seq in reader.seen if session_id == str(session.id)]
            assert seqs == sorted(seqs)
    positions = await query(own_database, "SELECT position FROM event_positions ORDER BY position")
    assert [row[0] for row in positions] == list(range(1, len(everything) + 1))


async def test_what_was_written_first_and_committed_last_comes_behind_what_readers_have_passed(
    own_database: Database,
):
    slow, quick = await opened(own_database, CALLER), await opened(own_database, CALLER)
    await Relay(own_database).drain()
    reader = Reader(own_database, View(TENANT, None))
    await reader.read()
    async with own_database.begin() as tx:
        await append_messages(tx, CALLER, slow.id, [MessageDraft(content="first")], CAUSE)
        await said(own_database, CALLER, quick.id, "second")
        await Relay(own_database).drain()
        assert await reader.read() == 1
    await Relay(own_database).drain()
    assert await reader.read() == 1

    assert reader.seen[-2:] == [(str(quick.id), 3), (str(slow.id), 3)]


async def test_a_relay_takes_nothing_while_another_one_is_at_work(own_database: Database):
    await opened(own_database, CALLER)

    async def relay() -> int:
        async with own_database.begin() as tx:
            rows, *_ = await relay_batch(tx, await outbox.next_rows(tx, 100))
        return len(rows)

    async with own_database.begin() as tx:
        await outbox.lead(tx)
        other = asyncio.create_task(relay())
        await a_lock_is_awaited(own_database, by=other)
        assert not other.done(), "two relays were at work"

    assert await other == len(await query(own_database, "SELECT FROM events"))


async def test_a_batch_that_is_undone_gives_no_positions(own_database: Database):
    session = await opened(own_database, CALLER)
    try:
        async with own_database.begin() as tx:
            await outbox.lead(tx)
            rows = await outbox.take(tx, await outbox.next_rows(tx, 100))
            views = await feed.record(tx, rows, 0)
            undo_if(unlucky=True)
    except Undo:
        before = await query(own_database, "SELECT * FROM event_positions")
    await Relay(own_database).drain()

    assert views == {View(TENANT, None), View(TENANT, session.user_id)}
    assert before == []
    assert [row[0] for row in await query(own_database, "SELECT position FROM event_positions ORDER BY 1")] == [1, 2]


async def test_a_view_is_a_tenants_or_a_users_own(own_database: Database):
    mine = await opened(own_database, user_of(TENANT, "ada"), user_id="ada")
    yours = await opened(own_database, CALLER, user_id="bob")
    await opened(own_database, service_of("another"), user_id="ada")
    await Relay(own_database).drain()

    async def sessions_in(view: View) -> set[object]:
        async with own_database.connect() as tx:
            return {event.session_id for _, event in await feed.page(tx, view, after=0, limit=100)}

    async with own_database.connect() as tx:
        behind = await feed.behind(
            tx, [(View(TENANT, None), 0), (View(TENANT, "ada"), 2), (View(TENANT, "bob"), 2), (View("nobody", None), 0)]
        )
    assert await sessions_in(View(TENANT, None)) == {mine.id, yours.id}
    assert await sessions_in(View(TENANT, "ada")) == {mine.id}
    assert await sessions_in(View(TENANT, "bob")) == {yours.id}
    assert await sessions_in(View("nobody", None)) == set()
    assert behind == [View(TENANT, None), View(TENANT, "bob")]


async def test_a_purged_session_leaves_no_position_behind_not_even_one_that_is_being_given(own_database: Database):
    session = await opened(own_database, CALLER)
    await Relay(own_database).drain()
    async with own_database.begin() as tx:
        await append_messages(tx, CALLER, session.id, [MessageDraft(content="x")], CAUSE)

    async def purge() -> None:
        async with own_database.begin() as tx:
            await purge_session(tx, CALLER, session.id)

    async with own_database.begin() as tx:
        await outbox.lead(tx)
        rows = await outbox.take(tx, await outbox.next_rows(tx, 100))
        await feed.record(tx, rows, 2)
        purging = asyncio.create_task(purge())
        await a_lock_is_awaited(own_database)
    await purging

    assert len(rows) == 1
    assert await query(own_database, "SELECT * FROM event_positions") == []
