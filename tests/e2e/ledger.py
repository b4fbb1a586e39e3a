"""What PostgreSQL holds in the end, to be compared with what clients were told."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
from invariants import violations

from service.commands.api_keys import KeyWish, create_api_key
from service.domain.caller import Scope
from service.store.engine import Database

UNFINISHED_KEYS = "SELECT count(*) FROM idempotency_keys WHERE status IS NULL"
"""Keys without their answers: a key commits with the effect, or not at all."""

NOT_RELAYED = """
    SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM events) - relayed_total FROM relay_progress
"""
"""Zero when nothing waits and every event was counted exactly once, but for the events that were purged."""

LET_TIME_PASS = """
    WITH spoken AS (UPDATE messages SET created_at = created_at - $2::interval WHERE session_id = ANY($1)),
         told AS (UPDATE events SET occurred_at = occurred_at - $2::interval WHERE session_id = ANY($1)),
         queued AS (UPDATE outbox SET recorded_at = recorded_at - $2::interval WHERE session_id = ANY($1))
    UPDATE sessions SET created_at = created_at - $2::interval, updated_at = updated_at - $2::interval,
                        last_message_at = last_message_at - $2::interval, expires_at = expires_at - $2::interval
    WHERE id = ANY($1)
"""


LET_LEASES_RUN_OUT = (
    "UPDATE attachments SET due_at = now() WHERE status = 'processing'",
    "UPDATE webhook_deliveries SET due_at = now() WHERE is_in_flight",
)


class Ledger:
    """Reads the database from the tests' main thread, by connections of its own: the server may have been killed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._purged = 0
        # A loop of its own, which no other test sees.
        self.runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)

    def close(self) -> None:
        self.runner.close()

    def rows(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        async def fetch() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self._url)
            try:
                return await connection.fetch(sql, *arguments)
            finally:
                await connection.close()

        return self.runner.run(fetch())

    def value(self, sql: str, *arguments: Any) -> Any:
        """The first column of the first row."""
        return self.rows(sql, *arguments)[0][0]

    def violations(self) -> list[str]:
        """Whatever does not hold, of what holds at every moment, whatever was killed."""

        async def look() -> list[str]:
            connection = await asyncpg.connect(self._url)
            try:
                unfinished = await connection.fetchval(UNFINISHED_KEYS)
                return [*await violations(connection), *["a key without its answer"] * unfinished]
            finally:
                await connection.close()

        return self.runner.run(look())

    def unrelayed(self) -> int:
        """How many events wait, or were not counted; zero when all is told."""
        return int(self.value(NOT_RELAYED)) + self._purged

    def forget_purged(self) -> None:
        """Count from here on, when nothing waits: what earlier tests purged is missed no more."""
        self._purged = -int(self.value(NOT_RELAYED))

    def messages(self, tenant: str) -> dict[tuple[str, int], tuple[str, str]]:
        """All messages of a tenant: session and number → id and content."""
        rows = self.rows("SELECT session_id, seq, id, content #>> '{}' FROM messages WHERE tenant_id = $1", tenant)
        return {(str(session), seq): (str(id_), content) for session, seq, id_, content in rows}

    def let_time_pass(self, sessions: list[str], minutes: int) -> None:
        """As if all that happened in these sessions had happened earlier."""
        self.rows(LET_TIME_PASS, [UUID(session) for session in sessions], timedelta(minutes=minutes))

    def let_leases_run_out(self) -> None:
        """As if the leases of workers that were killed had run out."""
        for statement in LET_LEASES_RUN_OUT:
            self.rows(statement)

    def make_key(self, tenant: str) -> str:
        async def make() -> str:
            database = Database(self._url, connections_max=1)
            await database.open()
            try:
                wish = KeyWish(tenant_id=tenant, name="e2e", user_id=None, scopes=[Scope.ADMIN], lifetime=None)
                async with database.begin() as tx:
                    return (await create_api_key(tx, wish))[1]
            finally:
                await database.close()

        return self.runner.run(make())
