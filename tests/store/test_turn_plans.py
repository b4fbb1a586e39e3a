"""Turns are found by steps of an index: what a claim reads grows with those that wait, not with what they have waiting.

At 100,000 waiting files and events; what that takes stands in `docs/operations.md`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import msgspec
import pytest
from conversations import crowd

from service.store import inspections, outbox
from service.store.engine import Statement

TENANTS = 100
READ_MAX = 10 * TENANTS
"""Rows: some for each tenant that waits. There are a hundred times as many."""

FILES = """
    INSERT INTO attachments (tenant_id, session_id, id, filename, content_type, declared_content_type, size, sha256,
        attachment_type, status, properties, metadata, uploaded_at, due_at, attempt_count, lease_token)
    SELECT tenant_id, CAST(lpad(to_hex(session), 32, '0') AS uuid), gen_random_uuid(), '', 'text/plain', 'text/plain',
           1, '', 'other', 'uploaded', '{{}}', '{{}}', now(), now() - interval '1 hour' + n * interval '1 ms', 0, 0
    FROM ({}) waiting (tenant_id, session, n)
"""
BULK = FILES.format("SELECT 'bulk', n % 10, n FROM generate_series(1, 50000) n")
MANY_SESSIONS = FILES.format("SELECT 'sessions', 1000 + n, n FROM generate_series(1, 40000) n")
MANY_TENANTS = FILES.format(
    f"SELECT 'tenant-' || n % {TENANTS - 2}, n % {TENANTS - 2}, n FROM generate_series(1, 10000) n"
)
IN_WORK = """
    UPDATE attachments SET status = 'processing', lease_token = 1, due_at = now() + interval '1 hour'
    WHERE id IN (SELECT id FROM attachments WHERE tenant_id = 'bulk' ORDER BY due_at LIMIT 20)
"""
EVENTS = f"""
    INSERT INTO outbox (tenant_id, session_id, event_seq, event_type, recorded_at)
    SELECT CASE WHEN n > {TENANTS} THEN 'bulk' ELSE 'tenant-' || n END, gen_random_uuid(), n, 'message.created', now()
    FROM generate_series(1, 100000) n
"""


@pytest.fixture(scope="module", params=["measured", "never analysed"])
async def crowded(new_database_url: Any, request: pytest.FixtureRequest) -> AsyncIterator[asyncpg.Connection[Any]]:
    """100,000 files wait: of one tenant in ten sessions, of one in 40,000, and of 98 tenants; and 100,000 events."""
    url = await new_database_url()
    await crowd(
        url,
        "ALTER TABLE attachments SET (autovacuum_enabled = off)",
        "ALTER TABLE outbox SET (autovacuum_enabled = off)",
        BULK,
        MANY_SESSIONS,
        MANY_TENANTS,
        IN_WORK,
        EVENTS,
        *(["VACUUM ANALYZE attachments, outbox"] if request.param == "measured" else []),
    )
    connection = await asyncpg.connect(url, server_settings={"plan_cache_mode": "force_generic_plan", "jit": "off"})
    yield connection
    await connection.close()


def read_by(plan: dict[str, Any]) -> Iterator[float]:
    """How many rows each scan of a plan has read, those that it threw away among them."""
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        thrown = sum(plan.get(f"Rows Removed by {why}", 0) for why in ("Filter", "Index Recheck"))
        yield (plan["Actual Rows"] + thrown) * plan["Actual Loops"]
    for part in plan.get("Plans", ()):
        yield from read_by(part)


async def read_for(connection: asyncpg.Connection[Any], statement: Statement, **parameters: Any) -> float:
    async with connection.transaction():
        (answer,) = await connection.fetchrow(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}", *statement.arguments(parameters)
        )
    (explained,) = msgspec.json.decode(answer)
    return sum(read_by(explained["Plan"]))


async def test_a_claim_reads_a_few_rows_for_each_tenant_that_waits(crowded: asyncpg.Connection[Any]):
    for _ in range(5):
        assert 0 < await read_for(crowded, inspections.CLAIM) < READ_MAX


async def test_a_claim_of_the_tenant_with_the_most_sessions_reads_no_more(crowded: asyncpg.Connection[Any]):
    await crowded.execute(
        "INSERT INTO inspection_turns (tenant_id, served_session_id) "
        "SELECT DISTINCT tenant_id, session_id FROM attachments WHERE tenant_id <> 'sessions'"
        "ON CONFLICT DO NOTHING"
    )

    assert 0 < await read_for(crowded, inspections.CLAIM) < READ_MAX


async def test_a_batch_of_the_relay_reads_a_few_rows_for_each_tenant_and_no_flood(crowded: asyncpg.Connection[Any]):
    assert 0 < await read_for(crowded, outbox.NEXT, limit=500) < READ_MAX
