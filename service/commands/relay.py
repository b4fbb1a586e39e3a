"""Relaying: what follows from events that have been recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from service.domain.event import EventType
from service.store import outbox
from service.store.engine import Tx
from service.store.outbox import OutboxRow, Progress

BATCH_ROWS_MAX = 500
"""Large enough to drain thousands of events a second, small enough to commit within milliseconds."""

Reaction = Callable[[Tx, OutboxRow], Awaitable[None]]

REACTIONS: Mapping[EventType, tuple[Reaction, ...]] = {}
"""Event type → what follows from it, in this order, in the transaction that takes the event out of the outbox.

Nothing reacts yet: webhooks and attachments will add their lines here.
"""


async def relay_batch(tx: Tx) -> tuple[list[OutboxRow], Progress]:
    """Take the oldest events out of the outbox and let each be reacted to.

    One relay at a time: another one waits here until this transaction ends, so whatever was committed before a call
    began is relayed when it returns an empty batch. The rows are gone only when the transaction commits: a crash before
    that can repeat a reaction, never lose one.
    """
    await outbox.lead(tx)
    rows = await outbox.take(tx, BATCH_ROWS_MAX)
    for row in rows:
        for reaction in REACTIONS.get(row.event_type, ()):
            await reaction(tx, row)
    return rows, await outbox.advance(tx, len(rows))
