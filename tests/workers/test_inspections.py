"""Files on their way through a worker: claimed, scanned, looked into, recorded once, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from clamd import EICAR, Clamd, scanning
from conversations import CAUSE, opened, query
from eventually import DEADLINE_SECONDS
from invariants import violations

from service.blobs import BlobStore, new_key
from service.commands.attachments import add_attachment, delete_attachment, retry_attachment
from service.domain.attachment import Attachment
from service.domain.caller import Caller
from service.ids import new_id
from service.store import blobs as rows
from service.store.attachments import NewAttachment
from service.store.blobs import Stored
from service.store.engine import Database
from workers.inspection import inspect as parent
from workers.jobs import inspect_attachments
from workers.jobs.delete_loose_blobs import sweep_loose_blobs
from workers.jobs.inspect_attachments import Inspections

POLL_SECONDS = 0.02


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    store = BlobStore(None, tmp_path / "files")
    store.open()
    return store


@pytest.fixture
async def clamd() -> AsyncIterator[Clamd]:
    async with scanning() as running:
        yield running


@pytest.fixture
def upload(own_database: Database, blobs: BlobStore, caller: Caller) -> Callable[..., Any]:
    """Stores a file and adds it to a session of its own."""

    async def add(content: bytes, filename: str = "a.txt") -> Attachment:
        session = await opened(own_database, caller)
        stored = Stored(hashlib.sha256(content).digest(), new_key(new_id()), len(content))
        new = NewAttachment(
            filename=filename,
            content_type="text/plain",
            size=stored.size,
            sha256=stored.sha256,
            metadata={},
        )
        async with own_database.begin() as tx:
            await rows.announce(tx, [stored.key])
        await blobs.put(stored.key, once(content))
        async with own_database.begin() as tx:
            return await add_attachment(tx, caller, session.id, new, stored, None, CAUSE)

    return add


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


@asynccontextmanager
async def working(
    database: Database,
    blobs: BlobStore,
    scanner: tuple[str, int] | None = None,
    *,
    may_be_weak: bool = sys.platform != "linux",
) -> AsyncIterator[Inspections]:
    """Inspections that are at work until the end of the block."""
    stop = asyncio.Event()
    inspections = Inspections(database, blobs, scanner, may_be_weak=may_be_weak)
    work = asyncio.create_task(inspections.work_until(stop))
    try:
        yield inspections
    finally:
        stop.set()
        await work


async def stands(database: Database, file: Attachment) -> asyncpg.Record:
    (row,) = await query(database, "SELECT * FROM attachments WHERE id = $1", file.id)
    return row


async def until(database: Database, file: Attachment, **wanted: Any) -> asyncpg.Record:
    """The file's row once it is as wanted."""
    return await once_it(database, file, lambda row: all(row[name] == value for name, value in wanted.items()))


async def once_it(database: Database, file: Attachment, fits: Callable[[asyncpg.Record], bool]) -> asyncpg.Record:
    """The file's row once it fits."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_SECONDS
    while True:
        row = await stands(database, file)
        if fits(row):
            return row
        assert asyncio.get_running_loop().time() < deadline, f"not within {DEADLINE_SECONDS:.0f} s: {dict(row)}"
        await asyncio.sleep(POLL_SECONDS)


async def told(database: Database, file: Attachment) -> list[str]:
    found = await query(
        database,
        "SELECT type FROM events WHERE session_id = $1 AND type LIKE 'attachment.%' ORDER BY seq",
        file.session_id,
    )
    return [row["type"] for row in found]


async def assert_nothing_is_wrong(database: Database, url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        assert await violations(connection) == []
    finally:
        await connection.close()


async def test_a_file_becomes_ready_with_its_text_kept_beside_it(
    own_database: Database, own_database_url: str, blobs: BlobStore, upload: Callable[..., Any]
):
    file = await upload("grüß dich".encode())
    async with working(own_database, blobs):
        row = await until(own_database, file, status="ready")

    (text,) = await query(own_database, "SELECT key, size FROM blobs WHERE sha256 = $1", row["text_sha256"])
    kept = b"".join([bytes(chunk) async for chunk in await blobs.get(text["key"], 0, text["size"])])
    assert kept.decode() == "grüß dich"
    assert await told(own_database, file) == ["attachment.uploaded", "attachment.processed"]
    await assert_nothing_is_wrong(own_database, own_database_url)


async def test_of_two_workers_one_looks_into_each_file(
    own_database: Database, own_database_url: str, blobs: BlobStore, upload: Callable[..., Any]
):
    files = [await upload(b"file %d" % number) for number in range(8)]
    async with working(own_database, blobs), working(own_database, blobs):
        ready = [await until(own_database, file, status="ready") for file in files]

    assert [row["attempt_count"] for row in ready] == [1] * len(files)
    assert [await told(own_database, file) for file in files] == [
        ["attachment.uploaded", "attachment.processed"] for _ in files
    ]
    await assert_nothing_is_wrong(own_database, own_database_url)


async def test_a_file_that_the_scanner_knows_is_quarantined_and_not_looked_into(
    own_database: Database, own_database_url: str, blobs: BlobStore, upload: Callable[..., Any], clamd: Clamd
):
    bad, good = await upload(EICAR), await upload(b"harmless")
    async with working(own_database, blobs, clamd.address):
        quarantined = await until(own_database, bad, status="quarantined")
        ready = await until(own_database, good, status="ready")

    assert "EICAR" in quarantined["error"]
    assert (quarantined["text_sha256"], quarantined["thumbnail_sha256"]) == (None, None)
    assert None not in {quarantined["scanned_at"], ready["scanned_at"]}
    assert await told(own_database, bad) == ["attachment.uploaded", "attachment.failed"]
    await assert_nothing_is_wrong(own_database, own_database_url)


async def test_while_the_scanner_is_away_files_wait_without_an_attempt_counted_and_not_for_ever(
    own_database: Database, blobs: BlobStore, upload: Callable[..., Any], clamd: Clamd
):
    clamd.answer = b"broken ERROR\0"
    file = await upload(b"unseen")
    async with working(own_database, blobs, clamd.address) as inspections:
        waiting = await until(own_database, file, status="uploaded", lease_token=1)
        await query(
            own_database, "UPDATE attachments SET due_at = now(), uploaded_at = now() - interval '2 hours' RETURNING 1"
        )
        inspections.wake()
        failed = await until(own_database, file, status="failed")

    assert (waiting["attempt_count"], waiting["scanned_at"]) == (0, None)
    assert "scanner" in failed["error"]
    assert failed["scanned_at"] is None


async def test_while_the_storage_is_away_files_wait_without_an_attempt_counted(
    own_database: Database,
    blobs: BlobStore,
    upload: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    file = await upload(b"out of reach")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    away = BlobStore("s3://nowhere", tmp_path)
    away.open()
    async with working(own_database, away):
        waiting = await until(own_database, file, status="uploaded", lease_token=1)
    await query(own_database, "UPDATE attachments SET due_at = now() RETURNING 1")
    async with working(own_database, blobs):
        await until(own_database, file, status="ready")

    assert waiting["attempt_count"] == 0


async def test_a_file_whose_bytes_are_gone_fails_and_says_so(
    own_database: Database, blobs: BlobStore, upload: Callable[..., Any]
):
    file = await upload(b"soon gone")
    (kept,) = await query(own_database, "SELECT key FROM blobs")
    await blobs.delete(kept["key"])
    async with working(own_database, blobs):
        failed = await until(own_database, file, status="failed")

    assert "missing" in failed["error"]


WEAK_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from workers.inspection import child, landlock
landlock.restrict_reading_to = lambda *_: False
child.main()
"""
"""A child on a kernel without Landlock."""


async def test_a_file_that_no_lock_can_be_put_on_fails_at_once_and_can_be_retried_when_that_is_mended(
    own_database: Database,
    own_database_url: str,
    blobs: BlobStore,
    caller: Caller,
    upload: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
):
    file = await upload(b"words")
    with monkeypatch.context() as weak:
        weak.setattr(parent, "COMMAND", (sys.executable, "-I", "-B", "-X", "utf8", "-c", WEAK_CHILD, parent.ROOT))
        async with working(own_database, blobs, may_be_weak=False):
            failed = await until(own_database, file, status="failed")
    async with own_database.begin() as tx:
        await retry_attachment(tx, caller, file.session_id, file.id, CAUSE)
    async with working(own_database, blobs):
        await until(own_database, file, status="ready")

    assert failed["attempt_count"] == 1
    assert "cannot lock itself in" in failed["error"]
    assert "holdfast doctor" in failed["error"]
    assert (await told(own_database, file))[:2] == ["attachment.uploaded", "attachment.failed"]
    await assert_nothing_is_wrong(own_database, own_database_url)


async def test_a_lease_is_renewed_for_as_long_as_the_work_takes(
    own_database: Database,
    blobs: BlobStore,
    upload: Callable[..., Any],
    clamd: Clamd,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(inspect_attachments, "RENEWAL_SECONDS", 0.05)
    clamd.may_answer.clear()
    file = await upload(b"takes its time")
    async with working(own_database, blobs, clamd.address):
        first = await until(own_database, file, status="processing")
        await once_it(own_database, file, lambda row: row["due_at"] > first["due_at"])
        clamd.may_answer.set()
        ready = await until(own_database, file, status="ready")

    assert ready["attempt_count"] == 1


async def test_a_file_that_is_deleted_under_the_worker_stays_deleted_and_leaves_nothing(
    own_database: Database,
    own_database_url: str,
    blobs: BlobStore,
    caller: Caller,
    upload: Callable[..., Any],
    clamd: Clamd,
    tmp_path: Path,
):
    clamd.may_answer.clear()
    file = await upload(b"deleted meanwhile")
    async with working(own_database, blobs, clamd.address):
        await until(own_database, file, status="processing")
        async with own_database.begin() as tx:
            await delete_attachment(tx, caller, file.session_id, file.id, CAUSE)
        clamd.may_answer.set()
    row = await stands(own_database, file)
    await query(own_database, "UPDATE loose_blobs SET due_at = now() RETURNING 1")
    await sweep_loose_blobs(own_database, blobs)

    assert (row["deleted_at"] is None, row["status"], row["text_sha256"]) == (False, "processing", None)
    assert await told(own_database, file) == ["attachment.uploaded", "attachment.deleted"]
    assert [path for path in (tmp_path / "files").rglob("*") if path.is_file()] == []
    await assert_nothing_is_wrong(own_database, own_database_url)


async def test_a_claim_that_somebody_else_has_taken_over_records_nothing(
    own_database: Database, own_database_url: str, blobs: BlobStore, upload: Callable[..., Any], clamd: Clamd
):
    clamd.may_answer.clear()
    file = await upload(b"taken over")
    async with working(own_database, blobs, clamd.address):
        await until(own_database, file, status="processing")
        await query(own_database, "UPDATE attachments SET lease_token = lease_token + 1 RETURNING 1")
        clamd.may_answer.set()
    row = await stands(own_database, file)

    assert row["status"] == "processing"
    assert await told(own_database, file) == ["attachment.uploaded"]
    await assert_nothing_is_wrong(own_database, own_database_url)
