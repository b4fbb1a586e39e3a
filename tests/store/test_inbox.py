"""The inbox knows what each call is by now, whether or not a sweep has recorded it, with every filter."""

from __future__ import annotations

from itertools import combinations
from typing import Any
from uuid import UUID

import pytest
from conversations import asked, opened, service_of, user_of

from service.domain.tool_call import CallStatus, ToolCall
from service.store import inbox, tool_calls
from service.store.engine import Database, Tx
from service.store.inbox import Filters

SERVICE, USER = service_of("tenant-1"), user_of("tenant-1", "user-2")


@pytest.fixture
async def calls(own_database: Database) -> list[ToolCall]:
    """Calls of every status in sessions that are live, past their time, and ended; late, in time and without a time.

    Newest first, each as a reader of its session sees it now; another tenant has one, too.
    """
    sessions = [
        await opened(own_database, SERVICE, user_id=user, agent_id=agent)
        for user in ("user-1", "user-2")
        for agent in ("agent-1", "agent-2", "agent-3")
    ]
    for session in sessions:
        await asked(own_database, SERVICE, session.id, *[f"tool-{number % 2}" for number in range(24)])
    stranger = service_of("tenant-2")
    await asked(own_database, stranger, (await opened(own_database, stranger)).id, "tool-0")
    async with own_database.begin() as tx:
        await _spread(tx)
        found = [
            call
            for session in sessions
            for call in await tool_calls.page_of_session(
                tx, SERVICE, session.id, statuses=None, tool_name=None, after_id=UUID(int=0), limit=200
            )
            or []
        ]
    return sorted(found, key=lambda call: call.id, reverse=True)


async def _spread(tx: Tx) -> None:
    """Each session's 24 calls: eight statuses, each with a time that is over, one to come, and none."""
    await tx._connection.execute(
        """
        UPDATE sessions SET expires_at = clock_timestamp() - interval '1 hour' WHERE agent_id = 'agent-2';
        UPDATE sessions SET status = 'ended', ended_at = now(), end_reason = 'requested' WHERE agent_id = 'agent-3';
        WITH placed AS (SELECT id, row_number() OVER (PARTITION BY session_id ORDER BY id) AS n FROM tool_calls)
        UPDATE tool_calls SET
            status = (ARRAY['pending', 'approved', 'rejected', 'expired', 'running', 'completed', 'failed',
                            'cancelled'])[1 + n % 8],
            expires_at = (ARRAY[now() - interval '2 hours', now() + interval '2 hours', NULL])[1 + n % 3]
        FROM placed WHERE placed.id = tool_calls.id
        """
    )


WANTED = [(), *[(status,) for status in CallStatus], *combinations(CallStatus, 2), tuple(CallStatus)]


async def test_every_status_is_found_as_it_is_now(own_database: Database, calls: list[ToolCall]):
    assert {call.status for call in calls} == {*CallStatus}
    for statuses in WANTED:
        async with own_database.begin() as tx:
            found, count = await inbox.page(tx, SERVICE, Filters(statuses=statuses), before_id=None, limit=200)

        expected = [call for call in calls if not statuses or call.status in statuses]
        assert [(call.id, call.status) for call in found] == [(call.id, call.status) for call in expected]
        assert count == len(expected)


@pytest.mark.parametrize(
    "narrowed",
    [{"agent_id": "agent-2"}, {"tool_name": "tool-1"}, {"user_id": "user-2"}, {"agent_id": "agent-1", "user_id": "x"}],
    ids=str,
)
@pytest.mark.parametrize("caller", [SERVICE, USER], ids=["service", "user"])
async def test_every_filter_narrows_every_status(
    own_database: Database, calls: list[ToolCall], caller: Any, narrowed: dict[str, str]
):
    async with own_database.begin() as tx:
        everything, _ = await inbox.page(tx, caller, Filters(**narrowed), before_id=None, limit=200)
        for statuses in WANTED:
            found, count = await inbox.page(
                tx, caller, Filters(statuses=statuses, **narrowed), before_id=None, limit=200
            )

            expected = [call.id for call in everything if not statuses or call.status in statuses]
            assert [call.id for call in found] == expected
            assert count == len(expected)
    assert {call.id for call in everything} <= {call.id for call in calls}
