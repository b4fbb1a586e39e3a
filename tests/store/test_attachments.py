"""Files' rows: who sees them, what deletion leaves of them, and how workers take turns at them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest
from conversations import crowd, filed, inspected, opened, query

from service.domain.attachment import Attachment, AttachmentStatus, AttachmentType, Outcome
from service.domain.caller import Caller
from service.domain.session import Session
from service.store import attachments, inspections
from service.store.engine import Database
from service.store.inspections import LEASE_SECONDS, Claim

FIRST = UUID(int=0)
WORKERS = 10


@pytest.fixture
def database(own_database: Database) -> Database:
    """Rows are made and erased here by halves, which tests of the whole must not see."""
    return own_database


async def page(
    database: Database, caller: Caller, session_id: UUID, after_id: UUID = FIRST, limit: int = 100
) -> list[Attachment] | None:
    async with database.connect() as tx:
        return await attachments.page(tx, caller, session_id, after_id=after_id, limit=limit)


async def found(
    database: Database, caller: Caller, session_id: UUID, attachment_id: UUID
) -> tuple[bool, attachments.File | None]:
    async with database.connect() as tx:
        return await attachments.get(tx, caller, session_id, attachment_id)


async def look(database: Database, caller: Caller, file: Attachment) -> Attachment:
    is_visible, seen = await found(database, caller, file.session_id, file.id)
    assert is_visible
    assert seen is not None
    return seen.attachment


async def erased(database: Database, file: Attachment) -> None:
    async with database.begin() as tx:
        await attachments.erase(tx, file.session_id, file.id, file.uploaded_at)


async def claimed(database: Database) -> Claim | None:
    async with database.begin() as tx:
        return await inspections.claim(tx)


async def taken(database: Database) -> Claim:
    claim = await claimed(database)
    assert claim is not None
    return claim


async def recorded(database: Database, claim: Claim, **fields: Any) -> Attachment | None:
    outcome = Outcome(**{"status": AttachmentStatus.READY} | fields)
    async with database.begin() as tx:
        moment = (await query(database, "SELECT clock_timestamp()"))[0][0]
        return await inspections.record(tx, claim, outcome, text_sha256=None, thumbnail_sha256=None, moment=moment)


async def let_pass(database: Database, seconds: float, file: UUID | None = None) -> None:
    """Move when files are due into the past."""
    await query(
        database,
        "UPDATE attachments SET due_at = due_at - make_interval(secs => $1) WHERE $2::uuid IS NULL OR id = $2",
        float(seconds),
        file,
    )


async def due_in(database: Database, file: UUID) -> float:
    rows = await query(
        database, "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM attachments WHERE id = $1", file
    )
    return float(rows[0][0])


async def test_what_was_deleted_is_in_no_page_and_a_tombstone_for_its_messages(database: Database, caller: Caller):
    session = await opened(database, caller)
    gone, stays = [await filed(database, caller, session.id, filename="unmistakable", metadata={"a": 1}) for _ in "ab"]

    await erased(database, gone)

    assert await page(database, caller, session.id) == [stays]
    assert await found(database, caller, session.id, gone.id) == (True, None)
    async with database.connect() as tx:
        by_id = await attachments.by_ids(tx, session.id, [stays.id, gone.id])
    assert by_id[stays.id] == stays
    tombstone = by_id[gone.id]
    assert (tombstone.filename, tombstone.sha256) == ("", "")
    assert (bytes(tombstone.metadata), bytes(tombstone.properties)) == (b"{}", b"{}")
    assert tombstone.deleted_at == gone.uploaded_at
    rows = await query(database, "SELECT a::text FROM attachments a WHERE id = $1", gone.id)
    assert "unmistakable" not in rows[0][0]
    assert gone.sha256 not in rows[0][0]


async def test_the_digests_of_a_session_are_all_its_references(own_database: Database, caller: Caller):
    session = await opened(own_database, caller)
    files = [await filed(own_database, caller, session.id, content) for content in (b"a", b"a", b"b", b"c")]
    await erased(own_database, files[3])
    await query(own_database, "UPDATE attachments SET text_sha256 = '\\x01' WHERE id = $1", files[0].id)

    async with own_database.connect() as tx:
        digests = await attachments.digests(tx, session.id)

    assert sorted(digests) == sorted([b"\x01", *(bytes.fromhex(file.sha256) for file in files[:3])])


@pytest.fixture
async def session(own_database: Database, caller: Caller) -> Session:
    return await opened(own_database, caller)


async def test_a_claim_holds_the_file_for_one_lease(own_database: Database, caller: Caller, session: Session):
    file = await filed(own_database, caller, session.id, b"content", filename="a.md", content_type="text/x")

    claim = await taken(own_database)

    assert msgspec.structs.replace(claim, waited_seconds=0.0) == Claim(
        tenant_id=caller.tenant_id,
        session_id=session.id,
        attachment_id=file.id,
        filename="a.md",
        declared_content_type="text/x",
        size=7,
        sha256=bytes.fromhex(file.sha256),
        attempt=1,
        lease_token=1,
        waited_seconds=0.0,
    )
    assert claim.waited_seconds >= 0
    assert 0 < await due_in(own_database, file.id) <= LEASE_SECONDS
    assert (await look(own_database, caller, file)).status is AttachmentStatus.PROCESSING
    assert await claimed(own_database) is None


async def test_files_are_claimed_in_the_order_in_which_they_became_due(
    own_database: Database, caller: Caller, session: Session
):
    first, second, third = [await filed(own_database, caller, session.id, name) for name in (b"1", b"2", b"3")]
    await let_pass(own_database, 60, third.id)

    claims = [await taken(own_database) for _ in range(3)]

    assert [claim.attachment_id for claim in claims] == [third.id, first.id, second.id]


async def test_workers_at_once_never_take_the_same_file(own_database: Database, caller: Caller, session: Session):
    files = [await filed(own_database, caller, session.id) for _ in range(WORKERS - 2)]

    claims = await asyncio.gather(*(claimed(own_database) for _ in range(WORKERS)))

    took = [claim.attachment_id for claim in claims if claim is not None]
    assert sorted(took) == sorted(file.id for file in files)
    assert claims.count(None) == 2


async def test_what_is_not_due_or_deleted_or_at_its_end_is_not_claimed(
    own_database: Database, caller: Caller, session: Session
):
    later, gone, ready, failed, quarantined = [await filed(own_database, caller, session.id) for _ in range(5)]
    await let_pass(own_database, -60, later.id)
    await erased(own_database, gone)
    for file, status in ((ready, "ready"), (failed, "failed"), (quarantined, "quarantined")):
        await inspected(own_database, caller.tenant_id, file, status=AttachmentStatus(status))

    assert await claimed(own_database) is None


async def test_a_lease_that_ran_out_goes_to_the_next_with_a_higher_token(
    own_database: Database, caller: Caller, session: Session
):
    await filed(own_database, caller, session.id)
    first = await taken(own_database)
    await let_pass(own_database, LEASE_SECONDS)

    second = await taken(own_database)

    assert (second.attachment_id, second.attempt, second.lease_token) == (first.attachment_id, 2, 2)


async def test_only_the_holder_of_the_token_renews_postpones_or_records(
    own_database: Database, caller: Caller, session: Session
):
    file = await filed(own_database, caller, session.id)
    stale = await taken(own_database)
    await let_pass(own_database, LEASE_SECONDS)
    holder = await taken(own_database)
    before = await query(own_database, "SELECT * FROM attachments")

    async with own_database.connect() as tx:
        assert not await inspections.renew(tx, stale, {"progress": 0.5})
        assert not await inspections.postpone(tx, stale, 0, is_attempt=False)
    assert await recorded(own_database, stale, error="stale") is None
    assert await query(own_database, "SELECT * FROM attachments") == before

    ready = await recorded(own_database, holder, content_type="text/plain")
    assert ready is not None
    assert ready == await look(own_database, caller, file)
    assert (ready.status, ready.content_type) == (AttachmentStatus.READY, "text/plain")
    assert await recorded(own_database, holder) is None
    async with own_database.connect() as tx:
        assert not await inspections.renew(tx, holder, None)
        assert not await inspections.postpone(tx, holder, 0, is_attempt=False)


async def test_a_renewal_keeps_the_file_for_another_lease_and_says_how_far_the_work_is(
    own_database: Database, caller: Caller, session: Session
):
    file = await filed(own_database, caller, session.id)
    claim = await taken(own_database)
    await let_pass(own_database, LEASE_SECONDS - 1)

    async with own_database.connect() as tx:
        assert await inspections.renew(tx, claim, {"progress": 0.5})
        assert await inspections.renew(tx, claim, None)

    assert await due_in(own_database, file.id) > LEASE_SECONDS - 1
    assert msgspec.json.decode((await look(own_database, caller, file)).properties) == {"progress": 0.5}


async def test_a_file_that_is_postponed_waits_and_has_lost_no_attempt(
    own_database: Database, caller: Caller, session: Session
):
    file = await filed(own_database, caller, session.id)
    claim = await taken(own_database)

    async with own_database.connect() as tx:
        assert await inspections.postpone(tx, claim, 30, is_attempt=False)

    assert (await look(own_database, caller, file)).status is AttachmentStatus.UPLOADED
    assert await claimed(own_database) is None
    assert 25 < await due_in(own_database, file.id) <= 30
    await let_pass(own_database, 30)
    again = await taken(own_database)
    assert (again.attempt, again.lease_token) == (1, 2)
    assert await recorded(own_database, claim) is None


async def test_an_outcome_keeps_what_it_does_not_know_better(own_database: Database, caller: Caller, session: Session):
    file = await filed(own_database, caller, session.id, content_type="text/x")
    claim = await taken(own_database)

    failed = await recorded(own_database, claim, status=AttachmentStatus.FAILED, error="It is broken.")

    assert failed is not None
    assert (failed.content_type, failed.declared_content_type) == ("text/x", "text/x")
    assert (failed.attachment_type, failed.error) == (AttachmentType.OTHER, "It is broken.")
    assert failed.processed_at is not None
    assert failed.processed_at - file.uploaded_at > timedelta(0)
    rows = await query(own_database, "SELECT scanned_at FROM attachments")
    assert rows[0]["scanned_at"] is None


async def test_a_failed_file_that_is_retried_has_all_its_attempts_again(
    own_database: Database, caller: Caller, session: Session
):
    file = await filed(own_database, caller, session.id)
    for _ in range(2):
        last = await taken(own_database)
        await let_pass(own_database, LEASE_SECONDS)
    last = await taken(own_database)
    await recorded(own_database, last, status=AttachmentStatus.FAILED, error="x", properties={"pages": 1})

    async with own_database.begin() as tx:
        again = await attachments.retry(tx, session.id, file.id, file.uploaded_at)

    assert (again.status, again.error, again.processed_at) == (AttachmentStatus.UPLOADED, None, None)
    assert bytes(again.properties) == b"{}"
    claim = await taken(own_database)
    assert claim.attempt == 1
    assert claim.lease_token > last.lease_token
    assert await recorded(own_database, last) is None


async def test_the_next_claim_looks_through_no_files_that_are_done(own_database_url: str, own_database: Database):
    await crowd(
        own_database_url,
        """
        INSERT INTO attachments (tenant_id, session_id, id, filename, content_type, declared_content_type, size, sha256,
            attachment_type, status, properties, metadata, uploaded_at, processed_at, due_at, attempt_count,
            lease_token)
        SELECT 'tenant-1', gen_random_uuid(), gen_random_uuid(), 'f', 'x/y', 'x/y', 1, '', 'other', 'ready', '{}', '{}',
               now(), now(), now(), 1, 1
        FROM generate_series(1, 20000)
        """,
        "ANALYZE attachments",
    )

    plan = await query(own_database, f"EXPLAIN {inspections.CLAIM.text}", [])

    assert "Seq Scan on attachments" not in "\n".join(row[0] for row in plan)
