"""A worker keeps a place for files of others: however many slow files a tenant has, another one's is looked into."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from clamd import Clamd, scanning
from conversations import CAUSE, opened, query, service_of
from eventually import until

from service.blobs import BlobStore, new_key
from service.commands.attachments import add_attachment
from service.domain.attachment import INSPECTIONS_MAX, tenant_share
from service.ids import new_id
from service.store import blobs as rows
from service.store.attachments import NewAttachment
from service.store.blobs import Stored
from service.store.engine import Database
from workers.jobs.inspect_attachments import Inspections

SLOW = b"slow"
"""Content over which the scanner waits: a file that keeps its place for as long as the test likes."""


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    store = BlobStore(None, tmp_path / "files")
    store.open()
    return store


@pytest.fixture
async def clamd() -> AsyncIterator[Clamd]:
    async with scanning() as running:
        running.holds = SLOW
        running.may_answer.clear()
        yield running


async def upload(database: Database, blobs: BlobStore, tenant: str, content: bytes) -> None:
    caller = service_of(tenant)
    session = await opened(database, caller)
    stored = Stored(hashlib.sha256(content).digest(), new_key(new_id()), len(content))
    async with database.begin() as tx:
        await rows.announce(tx, [stored.key])
    await blobs.put(stored.key, pieces(content))
    new = NewAttachment(
        filename="a.txt", content_type="text/plain", size=stored.size, sha256=stored.sha256, metadata={}
    )
    async with database.begin() as tx:
        await add_attachment(tx, caller, session.id, new, stored, None, CAUSE)


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    yield content


@asynccontextmanager
async def working(database: Database, blobs: BlobStore, clamd: Clamd, workers: int = 1) -> AsyncIterator[None]:
    stop = asyncio.Event()
    work = [asyncio.create_task(Inspections(database, blobs, clamd.address).work_until(stop)) for _ in range(workers)]
    try:
        yield
    finally:
        clamd.may_answer.set()
        stop.set()
        await asyncio.gather(*work)


async def statuses(database: Database, tenant: str) -> list[str]:
    found = await query(database, "SELECT status FROM attachments WHERE tenant_id = $1 ORDER BY uploaded_at", tenant)
    return [row[0] for row in found]


def test_a_tenant_has_all_places_of_a_worker_but_one_and_always_one():
    assert [tenant_share(places) for places in (1, 2, 3, 8)] == [1, 1, 2, 7]
    assert tenant_share(INSPECTIONS_MAX) == 2


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_file_behind_six_slow_ones_of_another_tenant_is_ready_while_those_are_in_work(
    own_database: Database, blobs: BlobStore, clamd: Clamd, workers: int
):
    for number in range(6):
        await upload(own_database, blobs, "flood", SLOW + b"%d" % number)
    async with working(own_database, blobs, clamd, workers):
        share = workers * tenant_share(INSPECTIONS_MAX)
        await until(lambda: len(clamd.seen) == share)
        await upload(own_database, blobs, "newcomer", b"hello")

        async def newcomer_is_ready() -> bool:
            return await statuses(own_database, "newcomer") == ["ready"]

        await until(newcomer_is_ready)
        in_work = (await statuses(own_database, "flood")).count("processing")

    assert in_work == share


async def test_a_tenant_alone_has_all_its_files_looked_into_through_its_share(
    own_database: Database, blobs: BlobStore, clamd: Clamd
):
    clamd.may_answer.set()
    for number in range(6):
        await upload(own_database, blobs, "alone", SLOW + b"%d" % number)
    async with working(own_database, blobs, clamd):

        async def all_are_ready() -> bool:
            return await statuses(own_database, "alone") == ["ready"] * 6

        await until(all_are_ready)
