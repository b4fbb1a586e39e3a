"""Objects that are being written: announced for as long as that takes, then adopted, or due at once."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from conversations import query
from eventually import until

from service import announcements
from service.announcements import Announcement
from service.blobs import BlobStore, new_key
from service.domain.errors import StorageUnavailable
from service.ids import new_id
from service.store import blobs as rows
from service.store.blobs import Stored
from service.store.engine import Database
from workers.jobs.delete_loose_blobs import sweep_loose_blobs

CONTENT = b"the words of a file"
SECONDS_LEFT = "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM loose_blobs WHERE key = $1"
LET_TIME_PASS = "UPDATE loose_blobs SET due_at = clock_timestamp()"


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    opened = BlobStore(None, tmp_path)
    opened.open()
    return opened


@pytest.fixture
def key() -> str:
    return new_key(new_id())


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def seconds_left(database: Database, key: str) -> float | None:
    """The time after which the sweep takes the object; None where it is not announced."""
    found = await query(database, SECONDS_LEFT, key)
    return found[0][0] if found else None


@pytest.mark.parametrize("end", [None, OSError, asyncio.CancelledError])
async def test_what_no_row_refers_to_is_due_at_once_however_the_block_ends(
    own_database: Database, store: BlobStore, key: str, tmp_path: Path, end: type[BaseException] | None
):
    before = None
    with suppress(OSError, asyncio.CancelledError):
        async with Announcement(own_database, store) as announcement:
            await announcement.announce([key])
            await store.put(key, once(CONTENT))
            before = await seconds_left(own_database, key)
            if end is not None:
                raise end
    after = await seconds_left(own_database, key)

    assert before is not None
    assert 200 < before <= rows.ANNOUNCED_SECONDS
    assert after is not None
    assert after <= 0
    assert await sweep_loose_blobs(own_database, store) == 1
    assert names(tmp_path) == []


async def test_an_announcement_is_renewed_for_as_long_as_its_block_runs(
    own_database: Database, store: BlobStore, key: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(announcements, "RENEWAL_SECONDS", 0.02)
    async with own_database.connect() as tx:
        await rows.announce(tx, [key])

    async def is_renewed() -> bool:
        return (await seconds_left(own_database, key) or 0) > 200

    async with Announcement(own_database, store, key):
        for _ in range(2):
            await query(own_database, "UPDATE loose_blobs SET due_at = due_at - interval '250 seconds'")
            await until(is_renewed)


async def test_an_adopted_object_stays(own_database: Database, store: BlobStore, key: str, tenant: str, tmp_path: Path):
    new = Stored(hashlib.sha256(CONTENT).digest(), key, len(CONTENT))
    async with Announcement(own_database, store) as announcement:
        await announcement.announce([key])
        await store.put(key, once(CONTENT))
        await announcement.confirm()
        async with own_database.begin() as tx:
            await rows.exchange(tx, tenant, gained=[new], lost=[], quota=None)

    assert await sweep_loose_blobs(own_database, store) == 0
    assert names(tmp_path) == [key]


@pytest.mark.parametrize("is_forgotten", [True, False])
async def test_an_object_that_is_written_after_the_sweep_took_it_is_refused_and_deleted(
    own_database: Database, store: BlobStore, key: str, tmp_path: Path, is_forgotten: bool
):
    """Its process stood still for minutes; the sweep found nothing to delete, and no row may know of it any more."""
    async with Announcement(own_database, store) as announcement:
        await announcement.announce([key])
        await query(own_database, LET_TIME_PASS)
        if is_forgotten:
            assert await sweep_loose_blobs(own_database, store) == 1
        else:
            async with own_database.begin() as tx:
                assert await rows.doom(tx, 10) == [key]
        await store.put(key, once(CONTENT))
        with pytest.raises(StorageUnavailable):
            await announcement.confirm()

    assert names(tmp_path) == []
