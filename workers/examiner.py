"""What is done with one claimed file: fetched, scanned, inspected, and what came out of it stored."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from pathlib import Path

import msgspec

from service.announcements import Announcement
from service.blobs import BlobMissing, BlobStore, new_key
from service.domain.attachment import AttachmentStatus, Outcome
from service.domain.errors import StorageFull, StorageUnavailable
from service.ids import new_id
from service.log import get_logger
from service.store import blobs as rows
from service.store.blobs import Stored
from service.store.engine import Database
from service.store.inspections import Claim
from workers.inspection.inspect import InspectionFailed, Report, inspect
from workers.scanner import ScannerAway, verdict_on
from workers.scratch import scratch_folder

FILE_CHUNK_BYTES = 1024 * 1024

LOG = get_logger("inspection")


class Product(msgspec.Struct, frozen=True):
    """What came out of looking at a file: its end, and the objects that were made on the way."""

    outcome: Outcome
    text: Stored | None = None
    thumbnail: Stored | None = None


class Postponed(Exception):
    """The file has to be looked at another time. `reason`: what it fails with when patience ends.

    `is_attempt`: whether this time counts as one of its attempts; not where something that it needs is away.
    """

    def __init__(self, reason: str, *, is_attempt: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_attempt = is_attempt


class Progress:
    """How far an inspection is: told by the child, written with the next renewal of the lease."""

    def __init__(self) -> None:
        self._share = 0.0
        self._told = 0.0

    def report(self, share: float) -> None:
        """`share` of the work is done, from 0 to 1."""
        self._share = share

    def news(self) -> dict[str, float] | None:
        """The properties to write; None: nothing has moved."""
        if self._share == self._told:
            return None
        self._told = self._share
        return {"progress": round(self._share, 2)}


class Examiner:
    """Looks at files in a scratch folder of their own, which is gone afterwards."""

    def __init__(
        self, database: Database, blobs: BlobStore, scanner: tuple[str, int] | None, *, may_be_weak: bool = False
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._scanner = scanner
        self._may_be_weak = may_be_weak

    async def examine(self, claim: Claim, progress: Progress, announcement: Announcement) -> Product:
        """Look at the file until there is an end to record. Once this has ended, no object of it is being written.

        Raises:
            Postponed: the storage or the scanner is away, or the inspection was stopped from outside.
            Unavailable: PostgreSQL is away.
        """
        try:
            async with scratch_folder() as folder:
                return await self._look_in(folder, claim, progress, announcement)
        except (StorageUnavailable, StorageFull) as error:
            raise Postponed("The file storage could not be reached.") from error
        except ScannerAway as error:
            LOG.warning("scanner.away", error=str(error))
            raise Postponed("The virus scanner gave no verdict.") from error

    async def _look_in(self, folder: Path, claim: Claim, progress: Progress, announcement: Announcement) -> Product:
        source, output = folder / "file", folder / "output"
        output.mkdir()
        try:
            await self._fetch(claim, source)
        except BlobMissing:
            return Product(Outcome(status=AttachmentStatus.FAILED, error="Its bytes are missing from the storage."))
        is_scanned = self._scanner is not None
        if self._scanner is not None and (virus := await verdict_on(source, self._scanner)) is not None:
            LOG.warning("inspection.virus_found", virus=virus, attachment_id=claim.attachment_id)
            error = f"The virus scanner found {virus}."
            return Product(Outcome(status=AttachmentStatus.QUARANTINED, error=error, is_scanned=True))
        try:
            report = await inspect(
                source,
                filename=claim.filename,
                declared=claim.declared_content_type,
                output=output,
                report_progress=progress.report,
                may_be_weak=self._may_be_weak,
            )
        except InspectionFailed as failed:
            LOG.info("inspection.failed", code=failed.code, cause=failed.cause, attachment_id=claim.attachment_id)
            if failed.is_transient:
                raise Postponed(failed.sentence, is_attempt=True) from failed
            return Product(
                Outcome(
                    status=AttachmentStatus.FAILED,
                    error=failed.sentence,
                    content_type=failed.content_type,
                    attachment_type=failed.attachment_type,
                    is_scanned=is_scanned,
                )
            )
        return await self._keep_products(report, announcement, is_scanned=is_scanned)

    async def _fetch(self, claim: Claim, target: Path) -> None:
        async with self._database.connect() as tx:
            stored = await rows.find(tx, claim.tenant_id, claim.sha256)
        if stored is None:
            raise BlobMissing
        await self._blobs.download(stored.key, stored.size, target)

    async def _keep_products(self, report: Report, announcement: Announcement, *, is_scanned: bool) -> Product:
        made = {path: new_key(new_id()) for path in (report.text, report.thumbnail) if path is not None}
        if made:
            await announcement.announce(list(made.values()))
        stored = {path: await self._put(path, key) for path, key in made.items()}
        outcome = Outcome(
            status=AttachmentStatus.READY,
            content_type=report.content_type,
            attachment_type=report.attachment_type,
            properties=report.properties,
            is_scanned=is_scanned,
        )
        return Product(
            outcome,
            text=None if report.text is None else stored[report.text],
            thumbnail=None if report.thumbnail is None else stored[report.thumbnail],
        )

    async def _put(self, path: Path, key: str) -> Stored:
        digest = hashlib.sha256()
        size = 0

        async def chunks() -> AsyncIterator[bytes]:
            nonlocal size
            with await asyncio.to_thread(path.open, "rb") as file:
                while chunk := await asyncio.to_thread(file.read, FILE_CHUNK_BYTES):
                    digest.update(chunk)
                    size += len(chunk)
                    yield chunk

        await _uninterrupted(self._blobs.put(key, chunks()))
        return Stored(digest.digest(), key, size)


async def _uninterrupted(work: Coroutine[None, None, None]) -> None:
    """Wait for the end of a write even when cut off, and raise that afterwards: then its object can be deleted."""
    writing = asyncio.create_task(work)
    try:
        await asyncio.shield(writing)
    except asyncio.CancelledError:
        while not writing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([writing])
        if not writing.cancelled():
            writing.exception()  # looked at, so that asyncio does not report it
        raise
