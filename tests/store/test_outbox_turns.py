"""Events are relayed in equal shares: a flood of one tenant's events holds up its own alone, and keeps its order."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import pytest
import sqlalchemy as sa
from conversations import query

from service.store import outbox
from service.store.engine import Database, Statement
from service.store.outbox import OutboxRow

LIMIT = 10
FLOOD = 300

BURST = 5000
PLANS_UNTIL_ONE_IS_KEPT = 10
"""PostgreSQL plans a prepared statement anew five times before it may keep a plan."""

ANALYZE = Statement(sa.text("ANALYZE outbox"))
ROWS_READ = Statement(
    sa.text("SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'outbox'")
)

TELL = """
    INSERT INTO outbox (tenant_id, session_id, event_seq, event_type, recorded_at)
    SELECT $1, $2, $3 + n, 'message.created', now() FROM generate_series(1, $4) n RETURNING id
"""


@pytest.fixture
def database(own_database: Database) -> Database:
    """The relay looks at all tenants."""
    return own_database


async def told(database: Database, tenant_id: str, count: int = 1, session: int = 1, after: int = 0) -> list[int]:
    """Events that wait, later than all that were there before."""
    return [row["id"] for row in await query(database, TELL, tenant_id, UUID(int=session), after, count)]


async def relayed(database: Database) -> list[OutboxRow]:
    """The next batch, taken out."""
    async with database.begin() as tx:
        return await outbox.take(tx, await outbox.next_rows(tx, LIMIT))


async def test_a_flood_of_one_tenant_takes_an_equal_share_of_each_batch(database: Database):
    flood = await told(database, "a", FLOOD)
    small = await told(database, "b", 3)
    (single,) = await told(database, "c")

    batch = await relayed(database)

    assert [row.id for row in batch] == [*flood[:4], *small, single]


async def test_what_others_do_not_need_is_the_floods_in_the_next_batch(database: Database):
    flood = await told(database, "a", FLOOD)
    await told(database, "b")
    await relayed(database)

    batch = await relayed(database)

    assert [row.id for row in batch] == flood[5:15]


async def test_a_flood_that_keeps_coming_delays_another_tenants_event_by_no_batch(database: Database):
    await told(database, "a", FLOOD)
    for number in range(10):
        await told(database, "a", LIMIT, after=FLOOD + number * LIMIT)
        (single,) = await told(database, "b", session=2, after=number)

        assert single in {row.id for row in await relayed(database)}


async def test_of_more_tenants_than_a_batch_has_places_those_that_wait_longest_are_relayed_first(database: Database):
    flood = await told(database, "z", FLOOD)
    others = [id_ for number in range(2 * LIMIT) for id_ in await told(database, f"t{number:02}")]

    batches = [[row.id for row in await relayed(database)] for _ in range(2)]

    assert batches[0] == [flood[0], *others[: LIMIT - 1]]
    assert batches[1] == [flood[1], *others[LIMIT - 1 : 2 * LIMIT - 2]]


async def test_every_event_is_relayed_once_and_in_the_order_of_its_session(database: Database):
    for session in range(5):
        for tenant_id, count in (("a", 40), ("b", 7), ("c", 1)):
            await told(database, tenant_id, count, session=session * 3 + ord(tenant_id))
            await told(database, tenant_id, count, session=session * 3 + ord(tenant_id), after=count)
    rows: list[OutboxRow] = []
    while batch := await relayed(database):
        rows += batch

    seen: Counter[tuple[str, UUID]] = Counter()
    for row in rows:
        seen[row.tenant_id, row.session_id] += 1
        assert row.event_seq == seen[row.tenant_id, row.session_id]
    assert seen.total() == 2 * 5 * (40 + 7 + 1)


async def test_a_burst_is_taken_by_its_index_though_what_is_known_of_the_outbox_is_that_it_was_empty(
    database: Database,
):
    await told(database, "a", BURST)
    await query(database, "DELETE FROM outbox")
    async with database.begin() as tx:
        await tx.rows(ANALYZE)
        for _ in range(PLANS_UNTIL_ONE_IS_KEPT):
            await outbox.take(tx, await outbox.next_rows(tx, LIMIT))
    await told(database, "a", BURST)

    async with database.begin() as tx:
        before = await tx.value(ROWS_READ)
        batch = await outbox.next_rows(tx, LIMIT)
        await outbox.lead(tx)
        taken = await outbox.take(tx, batch)
        after = await tx.value(ROWS_READ)

    assert len(taken) == LIMIT
    assert after - before < BURST
