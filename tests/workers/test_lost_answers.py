"""A worker that does not hear that PostgreSQL has committed tells it again, and nothing comes of that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from conversations import query
from dispatch import REFUSED, TAKEN, delivering, endpoint, half, room, told
from eventually import until
from receiver import Receiver, answering
from structlog.testing import capture_logs

from service.commands.deliveries import claim_deliveries, record_attempts
from service.domain import delivery
from service.domain.delivery import Outcome
from service.domain.errors import Unavailable
from service.store.engine import Database, Tx


@pytest.mark.parametrize("outcome", [REFUSED, TAKEN], ids=["refused", "taken"])
async def test_an_attempt_that_is_told_again_counts_once(own_database: Database, outcome: Outcome):
    """As by a worker to which PostgreSQL's answer to the commit was lost."""
    await endpoint(own_database)
    await told(own_database, 2)
    async with own_database.begin() as tx:
        (claim,) = await claim_deliveries(tx, room(10))
    rows = "SELECT d, e.failing_since FROM webhook_deliveries d, webhook_endpoints e ORDER BY d.event_seq"

    async with own_database.begin() as tx:
        assert None not in await record_attempts(tx, [(claim, outcome)], half)
    once = await query(own_database, rows)
    for _ in range(2):
        async with own_database.begin() as tx:
            assert await record_attempts(tx, [(claim, outcome)], half) == [None]

    assert await query(own_database, rows) == once
    assert await query(own_database, "SELECT max(attempt_count) FROM webhook_deliveries") == [(1,)]


async def test_a_worker_to_which_the_answer_of_a_commit_was_lost_counts_its_attempt_once(
    own_database: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(delivery, "RETRIES_AFTER_SECONDS", [3600.0] * len(delivery.RETRIES_AFTER_SECONDS))
    begin, lost = Database.begin, 0

    @asynccontextmanager
    async def losing(database: Database, **options: bool) -> AsyncIterator[Tx]:
        nonlocal lost
        async with begin(database, **options) as tx:
            yield tx
        attempts = await query(own_database, "SELECT max(attempt_count) FROM webhook_deliveries")
        if attempts != [(0,)] and lost < 2:
            lost += 1
            raise Unavailable

    async with Receiver(answering(500)) as receiver, delivering(own_database) as deliveries:
        await endpoint(own_database, receiver.url)
        await told(own_database, 2)
        monkeypatch.setattr(Database, "begin", losing)
        with capture_logs() as logged:
            deliveries.wake()

            async def the_repeat_was_answered() -> bool:
                deliveries.wake()
                return any(line["event"] == "delivery.claim_lost" for line in logged)

            await until(the_repeat_was_answered)
        counts = await query(own_database, "SELECT attempt_count FROM webhook_deliveries ORDER BY event_seq")

    assert (lost, len(receiver.calls)) == (2, 1)
    assert [row[0] for row in counts] == [1, 0]
