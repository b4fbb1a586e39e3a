"""An inspection that is cut off while it stores what it found: no word of that stays in the store."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conversations import CAUSE, opened, query
from eventually import DEADLINE_SECONDS, until

from service.blobs import BlobStore, new_key
from service.commands.attachments import add_attachment, delete_attachment
from service.commands.sessions import purge_session
from service.domain.attachment import Attachment
from service.domain.caller import Caller
from service.ids import new_id
from service.store import blobs as rows
from service.store import inspections
from service.store.attachments import NewAttachment
from service.store.blobs import Stored
from service.store.engine import Database
from workers.jobs import inspect_attachments
from workers.jobs.delete_loose_blobs import sweep_loose_blobs
from workers.jobs.inspect_attachments import Inspections

CONTENT = b"the words of a file"


class SlowStore(BlobStore):
    """A store in which writes begin, and go on when they may, also where their caller does not wait for them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None, folder)
        self.began = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.writes: set[asyncio.Task[None]] = set()

    async def put(self, key: str, chunks: AsyncIterator[bytes | bytearray]) -> None:
        writing = asyncio.create_task(self._put_when_it_may(key, chunks))
        self.writes.add(writing)
        await asyncio.shield(writing)

    async def _put_when_it_may(self, key: str, chunks: AsyncIterator[bytes | bytearray]) -> None:
        content = b"".join([bytes(chunk) async for chunk in chunks])
        self.began.set()
        await self.may_go_on.wait()
        await super().put(key, once(content))


@pytest.fixture
async def slow(tmp_path: Path) -> SlowStore:
    store = SlowStore(tmp_path / "files")
    store.open()
    return store


@pytest.fixture
async def file(own_database: Database, caller: Caller, tmp_path: Path) -> Attachment:
    """A text file in a session of its own."""
    store = BlobStore(None, tmp_path / "files")
    store.open()
    stored = Stored(hashlib.sha256(CONTENT).digest(), new_key(new_id()), len(CONTENT))
    new = NewAttachment(
        filename="a.txt", content_type="text/plain", size=stored.size, sha256=stored.sha256, metadata={}
    )
    session = await opened(own_database, caller)
    async with own_database.connect() as tx:
        await rows.announce(tx, [stored.key])
    await store.put(stored.key, once(CONTENT))
    async with own_database.begin() as tx:
        return await add_attachment(tx, caller, session.id, new, stored, None, CAUSE)


async def once(content: bytes) -> AsyncIterator[bytes]:
    yield content


@pytest.fixture
def lost(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Is set when a renewal has found that the claim is lost; renewals come quickly."""
    renew, is_lost = inspections.renew, asyncio.Event()

    async def watched(*arguments: Any) -> bool:
        kept = await renew(*arguments)
        if not kept:
            is_lost.set()
        return kept

    monkeypatch.setattr(inspections, "renew", watched)
    monkeypatch.setattr(inspect_attachments, "RENEWAL_SECONDS", 0.02)
    return is_lost


async def due(database: Database) -> list[bool]:
    """Of all announced objects, whether the sweep takes them now."""
    return [row[0] for row in await query(database, "SELECT due_at <= clock_timestamp() FROM loose_blobs")]


def names(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("erase", ["delete", "purge"])
async def test_a_text_that_is_being_stored_when_its_file_is_erased_goes_at_once_when_it_is_written(
    own_database: Database,
    caller: Caller,
    slow: SlowStore,
    file: Attachment,
    lost: asyncio.Event,
    tmp_path: Path,
    erase: str,
):
    stop = asyncio.Event()
    work = asyncio.create_task(
        Inspections(own_database, slow, None, may_be_weak=sys.platform != "linux").work_until(stop)
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        await slow.began.wait()
        async with own_database.begin() as tx:
            if erase == "delete":
                await delete_attachment(tx, caller, file.session_id, file.id, CAUSE)
            else:
                await purge_session(tx, caller, file.session_id)
        await lost.wait()
        swept_before_it_was_written = sum([await sweep_loose_blobs(own_database, slow) for _ in range(10)])
        slow.may_go_on.set()
        stop.set()
        await work
        await asyncio.gather(*slow.writes)
    await sweep_loose_blobs(own_database, slow)

    assert swept_before_it_was_written == 1  # the file
    assert await query(own_database, "SELECT key FROM loose_blobs") == []
    assert names(tmp_path / "files") == []


async def test_a_text_that_is_being_stored_when_its_worker_stops_is_due_when_it_is_written(
    own_database: Database, slow: SlowStore, file: Attachment, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(inspect_attachments, "STOP_SECONDS", 0.01)

    async def is_given_back() -> bool:
        return await query(own_database, "SELECT 1 FROM attachments WHERE status = 'processing'") == []

    stop = asyncio.Event()
    work = asyncio.create_task(
        Inspections(own_database, slow, None, may_be_weak=sys.platform != "linux").work_until(stop)
    )
    async with asyncio.timeout(DEADLINE_SECONDS):
        await slow.began.wait()
        stop.set()
        await until(is_given_back)
        while_it_was_written = await due(own_database)
        slow.may_go_on.set()
        await work
        await asyncio.gather(*slow.writes)

    assert while_it_was_written == [False]
    assert await due(own_database) == [True]
