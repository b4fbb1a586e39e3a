"""The window of a context is found by index: it costs no more in a session of 10,000 messages than in one of 300."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from conversations import crowd

from service.store.engine import Database
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
    await crowd(url, "VACUUM ANALYZE messages, tool_calls")
    database = Database(url, connections_max=1)
    await database.open()
    yield database
    await database.close()


async def pages_of(database: Database, session_id: UUID, mode: str) -> tuple[int, str]:
    """How many pages of 8 KiB the statement looks at, and its plan."""
    parameters = {
        "tenant_id": "tenant-1", "session_id": session_id, "limit": LIMIT, "bytes_max": 4_000_000,
        "system_bytes_max": 2_000_000, "system_messages_max": SYSTEM_MESSAGES_MAX,
    }  # fmt: skip
    async with database.begin() as tx:
        await tx._connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        explained = await tx._connection.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {WINDOW.text}", *WINDOW.arguments(parameters)
        )
    plan = msgspec.json.decode(explained)[0]["Plan"]
    return plan["Shared Hit Blocks"] + plan["Shared Read Blocks"], explained


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("session", ["long", "long, without a system message"])
async def test_a_window_costs_no_more_in_a_long_session(filled: Database, session: str, mode: str):
    short, _ = await pages_of(filled, SESSIONS["short"][0], mode)
    long, plan = await pages_of(filled, SESSIONS[session][0], mode)

    assert long <= short * DEEPER, plan
