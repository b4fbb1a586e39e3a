"""Relaying: what follows from events that have been recorded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping

from service.commands.deliveries import make_deliveries
from service.domain.event import EventType
from service.domain.work import Queue
from service.store import feed, outbox, webhooks
from service.store.engine import Tx
from service.store.feed import View
from service.store.outbox import OutboxRow, Progress

BATCH_ROWS_MAX = 500
"""Large enough to drain thousands of events a second, small enough to commit within milliseconds."""

BATCH_DELIVERIES_MAX = 2000
"""Of webhooks, in one transaction. 500 events of a tenant with 50 endpoints made 25,000 in one, and the events of all
other tenants waited for seconds (measured)."""

Reaction = Callable[[Tx, list[OutboxRow]], Awaitable[Queue | None]]
"""Makes the rows that events give rise to, and says whose worker has something to do once they are committed.

It gets all events of a batch that it follows from at once, in their order.
"""


async def inspect_files(_tx: Tx, _rows: list[OutboxRow]) -> Queue:
    """A new file is inspected. Its own row is the work; there is nothing to add to it."""
    return Queue.ATTACHMENTS


REACTIONS: Mapping[EventType, tuple[Reaction, ...]] = {
    **dict.fromkeys(EventType, (make_deliveries,)),
    EventType.ATTACHMENT_UPLOADED: (make_deliveries, inspect_files),
}
"""Event type → what follows from it, in the transaction that takes the event out of the outbox."""


async def next_batch(tx: Tx) -> list[OutboxRow]:
    """The events to relay next, of each tenant its oldest ones in equal shares.

    Once there is none, all that was committed before the call has been relayed.
    """
    rows = await outbox.next_rows(tx, BATCH_ROWS_MAX)
    tenants = sorted({row.tenant_id for row in rows})
    listening = await webhooks.listening(tx, tenants) if rows else []
    return _bounded(rows, Counter(listener.tenant_id for listener in listening))


def _bounded(rows: list[OutboxRow], endpoints: Mapping[str, int]) -> list[OutboxRow]:
    """The rows that make few deliveries together: of each tenant its first ones, in an equal share, and one at least.

    `endpoints`: how many of each tenant get events.
    """
    share = BATCH_DELIVERIES_MAX // max(1, len({row.tenant_id for row in rows}))
    made: Counter[str] = Counter()
    kept = []
    for row in rows:
        if made[row.tenant_id] == 0 or made[row.tenant_id] + endpoints.get(row.tenant_id, 0) <= share:
            kept.append(row)
        made[row.tenant_id] += max(1, endpoints.get(row.tenant_id, 0))
    return kept


async def relay_batch(tx: Tx, batch: list[OutboxRow]) -> tuple[list[OutboxRow], Progress, set[Queue], set[View]]:
    """Take these events out of the outbox and let each be reacted to; whose workers to wake after the commit.

    Each event gets its place in the order across sessions, too; in whose views is the last of what is returned.

    One relay at a time: another one waits here until this transaction ends, and finds that what it wanted is gone. The
    rows are gone only when the transaction commits: a crash before that can repeat a reaction, never lose one.
    """
    await outbox.lead(tx)
    rows = await outbox.take(tx, batch)
    followed: dict[Reaction, list[OutboxRow]] = defaultdict(list)
    for row in rows:
        for reaction in REACTIONS.get(row.event_type, ()):
            followed[reaction].append(row)
    woken = {await reaction(tx, caused_by) for reaction, caused_by in followed.items()}
    progress = await outbox.advance(tx, len(rows))
    views = await feed.record(tx, rows, progress.relayed_total - len(rows)) if rows else set()
    return rows, progress, {queue for queue in woken if queue is not None}, views
