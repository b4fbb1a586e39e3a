"""Deletes objects that nothing refers to: of files that were deleted, and of uploads that nobody finished."""

from __future__ import annotations

from service.blobs import BlobStore
from service.domain.errors import StorageUnavailable
from service.log import get_logger
from service.store import blobs as rows
from service.store.engine import Database

BATCH_BLOBS_MAX = 100
"""Deleted within seconds, long before the next worker would try the same ones again."""

LOG = get_logger("blobs")


async def sweep_loose_blobs(database: Database, blobs: BlobStore) -> int:
    """Delete all objects that are due; how many. One that cannot be deleted is tried again a minute later.

    Raises:
        StorageUnavailable: after the others of its batch have been seen to.
        Unavailable: PostgreSQL is away.
    """
    total = 0
    while True:
        async with database.begin() as tx:
            doomed = await rows.doom(tx, BATCH_BLOBS_MAX)
        if not doomed:
            return total
        deleted, trouble = [], None
        for key in doomed:
            try:
                await blobs.delete(key)
            except StorageUnavailable as error:
                trouble = error
            else:
                deleted.append(key)
        async with database.begin() as tx:
            await rows.forget(tx, deleted)
        total += len(deleted)
        LOG.info("blobs.deleted", blobs=len(deleted))
        if trouble is not None:
            raise trouble
