"""Turns are found by steps of an index: what a claim reads grows with those that wait, not with what they have waiting.

At 20,000 of each; what 100,000 files take stands in `docs/operations.md`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import msgspec
import pytest
from conversations import crowd

from service.store import expiry, inspections, late_calls, outbox
from service.store.engine import Statement

TENANTS = 100
READ_MAX = 10 * TENANTS
"""Rows: some for each tenant that waits. There are twenty times as many."""

FILES = """
    INSERT INTO attachments (tenant_id, session_id, id, filename, content_type, declared_content_type, size, sha256,
        attachment_type, status, properties, metadata, uploaded_at, due_at, attempt_count, lease_token)
    SELECT tenant_id, CAST(lpad(to_hex(session), 32, '0') AS uuid), gen_random_uuid(), '', 'text/plain', 'text/plain',
           1, '', 'other', 'uploaded', '{{}}', '{{}}', now(), now() - interval '1 hour' + n * interval '1 ms', 0, 0
    FROM ({}) waiting (tenant_id, session, n)
"""
BULK = FILES.format("SELECT 'bulk', n % 10, n FROM generate_series(1, 10000) n")
MANY_SESSIONS = FILES.format("SELECT 'sessions', 1000 + n, n FROM generate_series(1, 8000) n")
MANY_TENANTS = FILES.format(
    f"SELECT 'tenant-' || n % {TENANTS - 2}, n % {TENANTS - 2}, n FROM generate_series(1, 2000) n"
)
IN_WORK = """
    UPDATE attachments SET status = 'processing', lease_token = 1, due_at = now() + interval '1 hour'
    WHERE id IN (SELECT id FROM attachments WHERE tenant_id = 'bulk' ORDER BY due_at LIMIT 20)
"""
EVENTS = f"""
    INSERT INTO outbox (tenant_id, session_id, event_seq, event_type, recorded_at)
    SELECT CASE WHEN n > {TENANTS} THEN 'bulk' ELSE 'tenant-' || n END, gen_random_uuid(), n, 'message.created', now()
    FROM generate_series(1, 20000) n
"""
SESSIONS = f"""
    INSERT INTO sessions (id, tenant_id, user_id, agent_id, status, config, metadata, tags, message_count,
        attachment_count, pending_tool_call_count, version, last_message_seq, last_event_seq, created_at, updated_at,
        expires_at)
    SELECT gen_random_uuid(), CASE WHEN n > {TENANTS} THEN 'bulk' ELSE 'tenant-' || n END, 'user', 'agent', 'active',
           '{{"max_messages": 10, "timeout_minutes": 60}}', '{{}}', '{{}}', 0, 0, 0, 1, 0, 0, now(), now(),
           now() + CASE WHEN n % 2 = 0 THEN interval '1 day' ELSE interval '-1 day' - n * interval '1 s' END
    FROM generate_series(1, 20000) n
"""
CALLS = """
    INSERT INTO tool_calls (tenant_id, session_id, id, message_id, user_id, agent_id, tool_name, arguments,
        requires_approval, status, created_at, version, expires_at)
    SELECT tenant_id, id, gen_random_uuid(), gen_random_uuid(), user_id, agent_id, 'shell', '{}', true, 'pending',
           now(), 1, now() - n * interval '1 s'
    FROM sessions, generate_series(1, 2) n WHERE expires_at > now()
"""

MEASURED = pytest.mark.parametrize("crowded", ["measured"], indirect=True)
"""Sessions and calls come over days, so their tables have been analysed; a bulk of files comes within a minute."""


@pytest.fixture(scope="module", params=["measured", "never analysed"])
async def crowded(new_database_url: Any, request: pytest.FixtureRequest) -> AsyncIterator[asyncpg.Connection[Any]]:
    """20,000 files wait: of one tenant in ten sessions, of one in 8,000, and of 98 tenants; and 20,000 events.

    Of 20,000 sessions every second one is over, and of the others 20,000 calls are late, nearly all of one tenant.
    """
    url = await new_database_url()
    await crowd(
        url,
        "ALTER TABLE attachments SET (autovacuum_enabled = off)",
        "ALTER TABLE outbox SET (autovacuum_enabled = off)",
        "ALTER TABLE sessions SET (autovacuum_enabled = off)",
        "ALTER TABLE tool_calls SET (autovacuum_enabled = off)",
        BULK,
        MANY_SESSIONS,
        MANY_TENANTS,
        IN_WORK,
        EVENTS,
        SESSIONS,
        CALLS,
        *(["VACUUM ANALYZE attachments, outbox, sessions, tool_calls"] if request.param == "measured" else []),
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
        assert 0 < await read_for(crowded, inspections.CLAIM, full_tenants=[]) < READ_MAX


async def test_a_claim_of_the_tenant_with_the_most_sessions_reads_no_more(crowded: asyncpg.Connection[Any]):
    await crowded.execute(
        "INSERT INTO inspection_turns (tenant_id, served_session_id) "
        "SELECT DISTINCT tenant_id, session_id FROM attachments WHERE tenant_id <> 'sessions'"
        "ON CONFLICT DO NOTHING"
    )

    assert 0 < await read_for(crowded, inspections.CLAIM, full_tenants=[]) < READ_MAX


async def test_a_claim_beside_tenants_that_have_all_their_places_reads_none_of_their_files(
    crowded: asyncpg.Connection[Any],
):
    tenants = await crowded.fetch("SELECT DISTINCT tenant_id FROM attachments")
    everyone = [row["tenant_id"] for row in tenants]

    assert 0 < await read_for(crowded, inspections.CLAIM, full_tenants=["bulk", "sessions"]) < READ_MAX
    assert 0 < await read_for(crowded, inspections.CLAIM, full_tenants=everyone) < READ_MAX


async def test_a_batch_of_the_relay_reads_a_few_rows_for_each_tenant_and_no_flood(crowded: asyncpg.Connection[Any]):
    assert 0 < await read_for(crowded, outbox.NEXT, limit=500) < READ_MAX


@MEASURED
async def test_whose_time_is_over_is_found_by_a_few_rows_for_each_tenant(crowded: asyncpg.Connection[Any]):
    assert expiry.CROWD <= await read_for(crowded, expiry.DUE_TENANTS, crowd=expiry.CROWD) < expiry.CROWD + READ_MAX
    assert 0 < await read_for(crowded, late_calls.TENANTS, crowd=late_calls.CROWD) < 2 * late_calls.CROWD + READ_MAX


@MEASURED
async def test_a_batch_of_what_is_over_is_found_without_reading_the_flood(crowded: asyncpg.Connection[Any]):
    of_one = {"tenant_id": "tenant-1", "limit": 200}

    assert 0 < await read_for(crowded, expiry.LOCK_DUE, **of_one) < READ_MAX
    assert await read_for(crowded, late_calls.CALLS, **of_one) < READ_MAX
