"""A context's messages are found and read by index: 10,000 messages in a session cost no more than 300."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from conversations import crowd

from service.store.engine import Database
from service.store.messages import NUMBERED
from service.store.windows import SYSTEM_MESSAGES_MAX, WINDOW

LIMIT = 100
CALLS = 5
SHORT, LONG = 300, 10_000
DEEPER = 1.5
"""An index of more rows is a page deeper, at most three where it was two. All rows of a long session lie on 2,000."""

SESSIONS = {
    "short": (UUID(int=1), SHORT, True),
    "long": (UUID(int=2), LONG, True),
    "long, without a system message": (UUID(int=3), LONG, False),
}


@pytest.fixture(scope="module")
async def filled(new_database_url: Any) -> AsyncIterator[Database]:
    """Sessions in which every tenth message brings five calls, and the five behind it are their results."""
    url = await new_database_url()
    for id_, count, has_system in SESSIONS.values():
        await crowd(
            url,
            f"""
            INSERT INTO sessions (id, tenant_id, user_id, agent_id, status, config, metadata, tags, message_count,
                attachment_count, pending_tool_call_count, version, last_message_seq, last_event_seq, created_at,
                updated_at, expires_at)
            VALUES ('{id_}', 'tenant-1', 'ada', 'agent', 'active', '{{"max_messages": 10000, "timeout_minutes": 60}}',
                    '{{}}', '{{}}', {count}, 0, 0, 1, {count}, 0, now(), now(), now() + interval '1 day')
            """,
            f"""
            INSERT INTO messages (tenant_id, session_id, seq, id, role, content, metadata, created_at, tool_call_id,
                                  tool_call_count)
            SELECT 'tenant-1', '{id_}', n, gen_random_uuid(),
                   CASE WHEN n = 1 AND {has_system} THEN 'system' WHEN n % 10 = 0 THEN 'assistant'
                        WHEN n > 10 AND n % 10 <= {CALLS} THEN 'tool' ELSE 'user' END,
                   to_json(repeat('word ', 300)), '{{}}', now(),
                   CASE WHEN n > 10 AND n % 10 BETWEEN 1 AND {CALLS} THEN gen_random_uuid() END,
                   CASE WHEN n % 10 = 0 THEN {CALLS} ELSE 0 END
            FROM generate_series(1, {count}) n
            """,
            f"""
            INSERT INTO tool_calls (tenant_id, session_id, id, message_id, user_id, agent_id, tool_name, arguments,
                                    requires_approval, status, created_at, version)
            SELECT 'tenant-1', r.session_id, r.tool_call_id, a.id, 'ada', 'agent', 'search', '{{}}', false,
                   'completed', now(), 1
            FROM messages r JOIN messages a ON a.session_id = r.session_id AND a.seq = r.seq - r.seq % 10
            WHERE r.session_id = '{id_}' AND r.tool_call_id IS NOT NULL
            """,
        )
    await crowd(url, "VACUUM ANALYZE sessions, messages, tool_calls")
    database = Database(url, connections_max=1)
    await database.open()
    yield database
    await database.close()


async def pages_of(database: Database, session_id: UUID, mode: str) -> tuple[int, list[str]]:
    """How many pages of 8 KiB the two statements look at, and their plans."""
    wanted = {
        "tenant_id": "tenant-1", "session_id": session_id, "limit": LIMIT, "bytes_max": 4_000_000,
        "system_bytes_max": 2_000_000, "system_messages_max": SYSTEM_MESSAGES_MAX,
    }  # fmt: skip
    async with database.begin() as tx:
        await tx._connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        seqs = [row["seq"] for row in await tx.rows(WINDOW, **wanted)]
        read = {"session_id": session_id, "tenant_id": "tenant-1", "user_id": None, "seqs": seqs}
        plans = [
            await tx._connection.fetchval(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.text}", *statement.arguments(parameters)
            )
            for statement, parameters in ((WINDOW, wanted), (NUMBERED, read))
        ]
    tops = [msgspec.json.decode(plan)[0]["Plan"] for plan in plans]
    assert tops[1]["Actual Rows"] == len(seqs) >= LIMIT
    return sum(top["Shared Hit Blocks"] + top["Shared Read Blocks"] for top in tops), plans


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("session", ["long", "long, without a system message"])
async def test_a_window_costs_no_more_in_a_long_session(filled: Database, session: str, mode: str):
    short, _ = await pages_of(filled, SESSIONS["short"][0], mode)
    long, plans = await pages_of(filled, SESSIONS[session][0], mode)

    assert long <= short * DEEPER, plans
