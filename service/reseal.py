"""`holdfast reseal`: everything that is sealed gets the first secret's seal, while the service runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from service.commands.resealing import Resealed, reseal_answers, reseal_webhooks
from service.seals import Seals
from service.store.engine import Database, Tx

WALKS_MAX = 10
"""Through a table, for rows that requests were using; each of those takes milliseconds."""

PAUSE_SECONDS = 0.5
"""Between two walks: what was in use is done by then."""

STEPS_BETWEEN_LINES = 50
"""A line of progress for every 10,000 rows."""

TransactedStep = Callable[[Tx, Seals, Any], Awaitable[Resealed]]


class Totals(msgspec.Struct):
    """What came of it, over all tables: sealed anew, with a seal that no secret opens, and in use till the end."""

    done: int = 0
    unopened: int = 0
    in_use: int = 0


async def reseal_everything(
    database: Database,
    seals: Seals,
    say: Callable[[str], None],
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Totals:
    """Seal anew in short transactions. Safe to end at any moment and to run again: what has the seal is left alone."""
    totals = Totals()
    for name, step in (("secrets of webhooks", reseal_webhooks), ("kept answers", reseal_answers)):
        walked = await _walk(_Table(name, step, database, seals, say), pause)
        totals.done += walked.done
        totals.unopened += walked.unopened
        totals.in_use += walked.in_use
    return totals


class _Table(msgspec.Struct, frozen=True):
    """One table, and what to go through it with."""

    name: str
    step: TransactedStep
    database: Database
    seals: Seals
    say: Callable[[str], None]


async def _walk(table: _Table, pause: Callable[[float], Awaitable[None]]) -> Totals:
    """Through one table, and again while there were rows in use."""
    found = await _walk_once(table)
    done = found.done
    for _ in range(WALKS_MAX - 1):
        if not found.in_use:
            break
        await pause(PAUSE_SECONDS)
        found = await _walk_once(table)
        done += found.done
    table.say(f"{table.name}: {done} sealed anew")
    return Totals(done, found.unopened, found.in_use)


async def _walk_once(table: _Table) -> Totals:
    found, after, steps = Totals(), None, 0
    while True:
        async with table.database.begin() as tx:
            one = await table.step(tx, table.seals, after)
        found.done += one.done
        found.unopened += one.unopened
        found.in_use += one.in_use
        if one.last is None:
            return found
        after, steps = one.last, steps + 1
        if steps % STEPS_BETWEEN_LINES == 0:
            table.say(f"{table.name}: {found.done} sealed anew so far")
