"""Inspections take turns by tenant and by session: a bulk, however large, holds up its own session alone."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from uuid import UUID

import pytest
from conversations import filed, opened, query, service_of
from eventually import DEADLINE_SECONDS

from service.commands.sessions import purge_session
from service.domain.attachment import AttachmentStatus, Outcome
from service.store import inspections
from service.store.engine import Database
from service.store.inspections import LEASE_SECONDS, Claim

FLOOD = 300
OLD, NEW, OTHER = UUID(int=1), UUID(int=2), UUID(int=3)
"""Two sessions of one tenant, of which the first was opened first, and one of another tenant."""

POLL_SECONDS = 0.01

WAITS_FOR_A_LOCK = """
    SELECT FROM pg_locks l JOIN pg_stat_activity s ON s.pid = l.pid
    WHERE NOT l.granted AND s.datname = current_database()
"""

WAIT = """
    INSERT INTO attachments (tenant_id, session_id, id, filename, content_type, declared_content_type, size, sha256,
        attachment_type, status, properties, metadata, uploaded_at, due_at, attempt_count, lease_token)
    SELECT $1, $2, gen_random_uuid(), '', 'text/plain', 'text/plain', 1, '', 'other', 'uploaded', '{}', '{}',
           now(), date_trunc('day', now()) - interval '1 day' + (before.files + n) * interval '1 ms', 0, 0
    FROM (SELECT count(*) AS files FROM attachments) before, generate_series(1, $3) n RETURNING id
"""


@pytest.fixture
def database(own_database: Database) -> Database:
    """A claim looks at all tenants."""
    return own_database


async def waiting(database: Database, tenant_id: str, session_id: UUID, files: int = 1) -> list[UUID]:
    """Files that wait, each for less long than all that were there before."""
    return [row["id"] for row in await query(database, WAIT, tenant_id, session_id, files)]


async def claimed(database: Database) -> Claim:
    async with database.begin() as tx:
        claim = await inspections.claim(tx)
    assert claim is not None
    return claim


async def claimed_by_one_that_dies(database: Database) -> None:
    class Death(Exception):
        pass

    with suppress(Death):
        async with database.begin() as tx:
            assert await inspections.claim(tx) is not None
            raise Death


async def ended(database: Database, claim: Claim) -> None:
    outcome = Outcome(status=AttachmentStatus.READY)
    async with database.begin() as tx:
        (now,) = await query(database, "SELECT clock_timestamp()")
        assert await inspections.record(tx, claim, outcome, text_sha256=None, thumbnail_sha256=None, moment=now[0])


async def sessions_of_next(database: Database, count: int) -> list[UUID]:
    """Whose file is claimed, `count` times; each is done before the next is claimed."""
    found = []
    for _ in range(count):
        claim = await claimed(database)
        await ended(database, claim)
        found.append(claim.session_id)
    return found


async def test_a_bulk_of_one_session_gives_way_to_another_tenant_and_to_another_session(database: Database):
    await waiting(database, "a", OLD, FLOOD)
    await waiting(database, "a", NEW)
    await waiting(database, "b", OTHER)

    assert await sessions_of_next(database, 5) == [NEW, OTHER, OLD, OLD, OLD]


async def test_two_bulks_of_one_tenant_take_turns(database: Database):
    await waiting(database, "a", OLD, 3)
    await waiting(database, "a", NEW, 3)

    assert await sessions_of_next(database, 6) == [NEW, OLD, NEW, OLD, NEW, OLD]


async def test_with_all_of_them_in_work_each_tenant_and_each_session_has_one_before_any_has_two(database: Database):
    await waiting(database, "a", OLD, FLOOD)
    await waiting(database, "a", NEW, 2)
    await waiting(database, "b", OTHER, 2)

    sessions = [(await claimed(database)).session_id for _ in range(6)]

    assert sessions == [NEW, OTHER, OLD, OTHER, NEW, OLD]


async def test_claims_at_once_are_shared_like_claims_one_after_the_other(database: Database):
    await waiting(database, "a", OLD, FLOOD)
    await waiting(database, "a", NEW)
    await waiting(database, "b", OTHER)

    claims = await asyncio.gather(*(claimed(database) for _ in range(3)))

    assert {claim.session_id for claim in claims} == {OLD, NEW, OTHER}


async def test_a_claim_waits_for_one_that_is_being_made_and_counts_it(database: Database):
    await waiting(database, "a", OLD, 2)
    await waiting(database, "b", OTHER)
    async with database.begin() as tx:
        first = await inspections.claim(tx)
        claiming = asyncio.create_task(claimed(database))
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not (claiming.done() or await query(database, WAITS_FOR_A_LOCK)):  # noqa: ASYNC110 - PostgreSQL's own
                await asyncio.sleep(POLL_SECONDS)
    second = await claiming

    assert first is not None
    assert (first.session_id, second.session_id) == (OLD, OTHER)


async def test_a_flood_that_keeps_coming_takes_every_second_turn_and_no_more(database: Database):
    await waiting(database, "a", OLD, FLOOD)
    await waiting(database, "b", OTHER, 10)
    tenants = []
    for number in range(20):
        await waiting(database, "a", OLD, 2)
        await waiting(database, "a", UUID(int=100 + number))
        claim = await claimed(database)
        await ended(database, claim)
        tenants.append(claim.tenant_id)

    assert tenants == ["a", "b"] * 10


async def test_sessions_that_keep_being_opened_come_after_all_that_wait(database: Database):
    await waiting(database, "a", OLD, 3)
    await waiting(database, "a", NEW, 3)
    sessions = []
    for number in range(8):
        sessions += await sessions_of_next(database, 1)
        await waiting(database, "a", UUID(int=100 + number))

    assert sessions[:2] == [NEW, OLD]
    assert sessions.index(OLD, 2) < 6


async def test_who_has_slow_files_in_work_waits_until_the_others_have_no_more(database: Database):
    await waiting(database, "a", OLD, 5)
    await waiting(database, "b", OTHER, 5)
    slow = await claimed(database)

    assert slow.session_id == OLD
    assert await sessions_of_next(database, 6) == [OTHER] * 5 + [OLD]
    await ended(database, slow)


async def test_a_session_with_slow_files_in_work_waits_until_the_others_of_its_tenant_have_no_more(database: Database):
    await waiting(database, "a", OLD, 5)
    await waiting(database, "a", NEW, 5)
    slow = await claimed(database)

    assert slow.session_id == NEW
    assert await sessions_of_next(database, 6) == [OLD] * 5 + [NEW]
    await ended(database, slow)


async def test_what_a_worker_that_died_had_in_work_counts_no_longer_than_its_lease(database: Database):
    await waiting(database, "a", OLD, 2)
    await waiting(database, "b", OTHER, 2)
    lost = await claimed(database)
    await query(
        database,
        "UPDATE attachments SET due_at = due_at - make_interval(secs => $1) WHERE id = $2",
        float(LEASE_SECONDS),
        lost.attachment_id,
    )

    assert await sessions_of_next(database, 3) == [OTHER, OLD, OTHER]
    assert (await claimed(database)).attachment_id == lost.attachment_id


async def test_a_file_that_is_given_back_comes_after_those_of_its_session_that_waited_and_before_later_ones(
    database: Database,
):
    before = await waiting(database, "a", OLD, 3)
    first = await claimed(database)
    async with database.begin() as tx:
        await inspections.postpone(tx, first, 0, is_attempt=True)
    after = await waiting(database, "a", OLD, 2)
    await query(database, "UPDATE attachments SET due_at = clock_timestamp() WHERE id = ANY ($1)", after)

    claims = [await claimed(database) for _ in range(4)]

    assert [claim.attachment_id for claim in claims[:3]] == [*before[1:], before[0]]
    assert claims[3].attachment_id in after
    assert [claim.attempt for claim in claims] == [1, 1, 2, 1]


async def test_a_claim_that_is_rolled_back_was_nobodys_turn(database: Database):
    await waiting(database, "a", OLD, 2)
    await waiting(database, "b", OTHER)
    await claimed_by_one_that_dies(database)

    claim = await claimed(database)

    assert (claim.tenant_id, claim.attempt, claim.lease_token) == ("a", 1, 1)
    assert (await claimed(database)).tenant_id == "b"


async def test_a_file_that_a_request_holds_gives_its_turn_to_another_one(database: Database):
    (held,) = await waiting(database, "a", OLD)
    (free,) = await waiting(database, "b", OTHER)
    async with database.begin() as tx:
        await tx._connection.execute("SELECT FROM attachments WHERE id = $1 FOR UPDATE", held)
        claim = await claimed(database)
        async with database.begin() as another:
            nothing = await inspections.claim(another)

    assert claim.attachment_id == free
    assert nothing is None
    assert (await claimed(database)).attachment_id == held


async def test_a_tenant_that_has_all_its_places_is_left_out_and_another_one_is_served(database: Database):
    await waiting(database, "a", OLD, 3)
    await waiting(database, "b", OTHER)
    claims = []
    for full in ((), ("a",), ("a",), ("a", "b"), ("b",)):
        async with database.begin() as tx:
            claim = await inspections.claim(tx, full)
        claims.append(claim and claim.tenant_id)

    assert claims == ["a", "b", None, None, "a"]


async def test_where_requests_hold_the_files_of_all_others_a_tenant_that_has_its_places_gets_no_more(
    database: Database,
):
    await waiting(database, "a", OLD, 3)
    (held,) = await waiting(database, "b", OTHER)
    async with database.begin() as tx:
        await tx._connection.execute("SELECT FROM attachments WHERE id = $1 FOR UPDATE", held)
        async with database.begin() as another:
            nothing = await inspections.claim(another, ["a"])

    assert nothing is None


async def test_a_session_that_is_purged_is_not_named_as_the_one_served_last(database: Database):
    caller = service_of("a")
    session = await opened(database, caller)
    await filed(database, caller, session.id)
    await claimed(database)
    (before,) = await query(database, "SELECT tenant_id, served_session_id, turn FROM inspection_turns")

    async with database.begin() as tx:
        await purge_session(tx, caller, session.id)

    (after,) = await query(database, "SELECT tenant_id, served_session_id, turn FROM inspection_turns")
    assert before["served_session_id"] == session.id
    assert after["served_session_id"] != session.id
    assert after["turn"] == before["turn"]
