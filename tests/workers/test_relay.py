"""The relay: every event once, in order, and none lost however it is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import UUID

import pytest
from conversations import opened, query, said, service_of
from eventually import DEADLINE_SECONDS, until

from service.commands import relay as commands
from service.domain.event import EventType
from service.store import outbox
from service.store.engine import Database, Tx
from service.store.outbox import OutboxRow
from workers.jobs import relay_events as relay_events_module
from workers.jobs.relay_events import Relay, relay_events

DRAINS = 4
CALLER = service_of("tenant")


async def tell(database: Database, events: int) -> None:
    """Put exactly `events` events into the outbox, of several sessions, in turns."""
    first, second = await opened(database, CALLER, activate=True), await opened(database, CALLER, activate=True)
    left = events - 4
    while left > 0:
        for session in (first, second):
            count = min(left, 100)
            if count:
                await said(database, CALLER, session.id, *["words"] * count)
            left -= count


async def waiting(database: Database) -> int:
    return int((await query(database, "SELECT count(*) FROM outbox"))[0][0])


async def relayed_total(database: Database) -> int:
    return int((await query(database, "SELECT relayed_total FROM relay_progress"))[0][0])


@asynccontextmanager
async def another_leader(database: Database) -> AsyncIterator[None]:
    """As if another process were relaying right now."""
    async with database.begin() as tx:
        await outbox.lead(tx)
        yield


async def test_four_relays_at_once_relay_each_event_once(own_database: Database):
    await tell(own_database, 1400)

    counts = await asyncio.gather(*(Relay(own_database).drain() for _ in range(DRAINS)))

    assert sum(counts) == 1400
    assert await relayed_total(own_database) == 1400
    assert await waiting(own_database) == 0


async def test_four_drains_of_one_relay_relay_each_event_once(own_database: Database):
    await tell(own_database, 700)
    relay = Relay(own_database)

    counts = await asyncio.gather(*(relay.drain() for _ in range(DRAINS)))

    assert sum(counts) == 700
    assert await relayed_total(own_database) == 700
    assert await waiting(own_database) == 0


async def test_events_told_while_relays_run_are_all_relayed(own_database: Database):
    relays = [Relay(own_database), Relay(own_database)]

    async def tell_and_ring() -> int:
        await tell(own_database, 10)
        return sum(await asyncio.gather(*(relay.drain() for relay in relays)))

    counts = await asyncio.gather(*(tell_and_ring() for _ in range(20)))

    assert sum(counts) == 200
    assert await relayed_total(own_database) == 200
    assert await waiting(own_database) == 0


async def test_what_was_told_before_a_drain_began_is_relayed_when_the_drains_have_ended(
    own_database: Database, monkeypatch: pytest.MonkeyPatch
):
    """The first drain has looked, and found nothing, before anything is told: the drains that follow must look."""
    look, has_looked, may_end = relay_events_module.next_batch, asyncio.Event(), asyncio.Event()

    async def look_and_wait(tx: Tx) -> list[OutboxRow]:
        found = await look(tx)
        has_looked.set()
        await may_end.wait()
        return found

    monkeypatch.setattr(relay_events_module, "next_batch", look_and_wait)
    relay = Relay(own_database)
    drains = [asyncio.create_task(relay.drain())]
    async with asyncio.timeout(DEADLINE_SECONDS):
        await has_looked.wait()
    await tell(own_database, 6)
    drains += [asyncio.create_task(relay.drain()) for _ in range(DRAINS)]
    await until(lambda: sum(drain.done() for drain in drains) >= DRAINS - 1)  # one waits for all of them
    may_end.set()
    counts = await asyncio.gather(*drains)

    assert (counts[0], sum(counts)) == (0, 6)
    assert await waiting(own_database) == 0


async def test_events_are_relayed_in_the_order_of_the_outbox(own_database: Database, monkeypatch: pytest.MonkeyPatch):
    seen: list[OutboxRow] = []

    async def see(_: Tx, rows: list[OutboxRow]) -> None:
        seen.extend(rows)

    monkeypatch.setattr(commands, "REACTIONS", dict.fromkeys(EventType, (see,)))
    await tell(own_database, 1200)
    assert await Relay(own_database).drain() == 1200

    assert [row.id for row in seen] == sorted(row.id for row in seen)
    told = await query(own_database, "SELECT session_id, seq, type, occurred_at FROM events ORDER BY session_id, seq")
    assert [(row.session_id, row.event_seq, row.event_type, row.recorded_at) for row in by_session(seen)] == [
        tuple(row) for row in told
    ]


class SlowTeller:
    """Outdates copies once it is let."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, UUID, int]] = []
        self.is_asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def outdate(self, told: Iterable[tuple[str, UUID, int]]) -> None:
        self.asked.extend(told)
        self.is_asked.set()
        await self.may_answer.wait()


async def test_nothing_of_an_event_can_be_seen_before_copies_that_do_not_know_it_are_gone(
    own_database: Database, monkeypatch: pytest.MonkeyPatch
):
    reacted: list[OutboxRow] = []

    async def react(_: Tx, rows: list[OutboxRow]) -> None:
        reacted.extend(rows)

    monkeypatch.setattr(commands, "REACTIONS", dict.fromkeys(EventType, (react,)))
    await tell(own_database, 6)
    teller = SlowTeller()
    draining = asyncio.create_task(Relay(own_database, teller=teller).drain())
    async with asyncio.timeout(DEADLINE_SECONDS):
        await teller.is_asked.wait()

    assert reacted == []
    assert await waiting(own_database) == 6  # so that another relay tells of them, should this one die now
    assert await query(own_database, "SELECT * FROM event_positions") == []

    teller.may_answer.set()
    assert await draining == 6
    assert sorted(teller.asked) == sorted((row.tenant_id, row.session_id, row.event_seq) for row in reacted)


def by_session(rows: list[OutboxRow]) -> list[OutboxRow]:
    return sorted(rows, key=lambda row: row.session_id)


async def test_a_relay_that_breaks_before_it_commits_loses_and_counts_nothing(
    own_database: Database, monkeypatch: pytest.MonkeyPatch
):
    seen: list[int] = []
    breaks = iter([False] * 5 + [True])

    async def react(_: Tx, rows: list[OutboxRow]) -> None:
        for row in rows:
            if next(breaks, False):
                raise RuntimeError("broken")
            seen.append(row.id)

    monkeypatch.setattr(commands, "REACTIONS", {EventType.MESSAGE_CREATED: (react,)})
    await tell(own_database, 14)
    relay = Relay(own_database)

    with pytest.raises(RuntimeError, match="broken"):
        await relay.drain()
    assert await waiting(own_database) == 14
    assert await relayed_total(own_database) == 0

    assert await relay.drain() == 14
    assert await waiting(own_database) == 0
    assert await relayed_total(own_database) == 14
    assert sorted(set(seen)) == seen[5:]


async def test_a_batch_whose_transaction_is_undone_is_back_in_the_outbox(own_database: Database):
    await tell(own_database, 9)
    before = await query(own_database, "SELECT * FROM outbox ORDER BY id")

    async def take_and_break() -> None:
        async with own_database.begin() as tx:
            rows, progress, _, _ = await commands.relay_batch(tx, await commands.next_batch(tx))
            assert (len(rows), progress.relayed_total) == (9, 9)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await take_and_break()

    assert await query(own_database, "SELECT * FROM outbox ORDER BY id") == before
    assert await relayed_total(own_database) == 0


@pytest.mark.parametrize("cancelled", [0, 1])
async def test_a_drain_that_is_cancelled_does_not_stop_those_that_follow(own_database: Database, cancelled: int):
    """arq cancels a job at its timeout: the one that runs, or the one that waits for it."""
    await tell(own_database, 8)
    relay = Relay(own_database)
    async with another_leader(own_database):  # there is something to relay, so the first drain waits for that leader
        drains = [asyncio.create_task(relay.drain())]
        await until(relay._running.locked)
        drains.append(asyncio.create_task(relay.drain()))
        await until(lambda: relay._one_waits)
        drains[cancelled].cancel()
        await asyncio.wait([drains[cancelled]])
    await asyncio.gather(*drains, return_exceptions=True)

    await tell(own_database, 8)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await relay.drain()
    assert await waiting(own_database) == 0
    assert await relayed_total(own_database) == 16


async def test_the_job_drains_the_outbox(own_database: Database):
    await tell(own_database, 5)

    assert await relay_events({"relay": Relay(own_database)}) == 5
    assert await relay_events({"relay": Relay(own_database)}) == 0


async def test_the_backlog_says_what_waits_and_since_when(own_database: Database):
    async def backlog() -> outbox.Backlog:
        async with own_database.connect() as tx:
            return await outbox.backlog(tx)

    assert await backlog() == outbox.Backlog(waiting=0, oldest_seconds=0, relayed_total=0)
    await tell(own_database, 5)
    await query(own_database, "UPDATE outbox SET recorded_at = recorded_at - interval '1 hour'")
    behind = await backlog()
    assert (behind.waiting, behind.oldest_seconds >= 3600) == (5, True)
    await Relay(own_database).drain()
    assert await backlog() == outbox.Backlog(waiting=0, oldest_seconds=0, relayed_total=5)
