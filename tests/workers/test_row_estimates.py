"""How many bytes of rows each tenant has is estimated, and who has too many may add none."""

from __future__ import annotations

import pytest
from conversations import opened, query, said

from service.commands.sessions import purge_session
from service.domain.caller import Caller
from service.store import row_estimates
from service.store.engine import Database
from workers.jobs.estimate_rows import sweep_row_estimates


async def estimates(database: Database) -> dict[str, int]:
    async with database.connect() as tx:
        return await row_estimates.largest(tx, 100)


async def let_estimates_age(database: Database) -> None:
    await query(database, "UPDATE tenant_rows SET estimated_at = estimated_at - interval '1 minute'")


async def swept_again(database: Database) -> dict[str, int]:
    await let_estimates_age(database)
    await sweep_row_estimates(database)
    return await estimates(database)


def of_tenant(name: str, caller: Caller) -> Caller:
    return Caller(tenant_id=name, subject=caller.subject, kind=caller.kind, scopes=caller.scopes)


async def test_a_tenant_is_estimated_by_what_its_rows_take(own_database: Database, caller: Caller):
    small, large = of_tenant("small", caller), of_tenant("large", caller)
    for who, count in ((small, 1), (large, 10)):
        session = await opened(own_database, who)
        for n in range(count):
            await said(own_database, who, session.id, "".join(chr(97 + (n * k * k) % 26) for k in range(50_000)))

    await sweep_row_estimates(own_database)

    found = await estimates(own_database)
    rows = await query(own_database, "SELECT tenant_id, sum(pg_column_size(content)) FROM messages GROUP BY 1")
    stored = {row[0]: row[1] for row in rows}
    assert set(found) == {"small", "large"}
    assert stored["small"] < found["small"] < stored["small"] + 10_000
    assert stored["large"] < found["large"] < stored["large"] + 30_000


async def test_what_is_purged_counts_no_more(own_database: Database, caller: Caller):
    session = await opened(own_database, caller)
    await sweep_row_estimates(own_database)
    assert set(await estimates(own_database)) == {caller.tenant_id}

    async with own_database.begin() as tx:
        await purge_session(tx, caller, session.id)

    assert await swept_again(own_database) == {}


async def test_of_a_table_that_is_too_large_a_part_is_read_and_the_estimate_comes_close(
    own_database: Database, caller: Caller, monkeypatch: pytest.MonkeyPatch
):
    session = await opened(own_database, caller)
    await said(own_database, caller, session.id, *["words"] * 3000)
    await sweep_row_estimates(own_database)
    whole = (await estimates(own_database))[caller.tenant_id]
    monkeypatch.setattr(row_estimates, "BLOCKS_MAX", 20)

    for _ in range(40):
        parts = await swept_again(own_database)

    assert 0.4 * whole < parts[caller.tenant_id] < 1.8 * whole


async def test_of_several_workers_one_estimates(own_database: Database, caller: Caller):
    await opened(own_database, caller)

    assert await sweep_row_estimates(own_database) == 1
    assert await sweep_row_estimates(own_database) == 0
    await let_estimates_age(own_database)
    assert await sweep_row_estimates(own_database) == 1
