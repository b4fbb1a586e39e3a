"""Objects on their way into the store: announced while they are written, and let go unless a row refers to them.

An announcement lasts for minutes and is renewed while its process lives, so what a killed process leaves behind is
deleted minutes later, however long an upload may take.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType
from typing import Self

from service.blobs import BlobStore
from service.domain.errors import StorageUnavailable, Unavailable
from service.log import get_logger
from service.store import blobs as rows
from service.store.engine import Database

RENEWAL_SECONDS = 30.0
"""A tenth of what an announcement lasts: it outlives a stop of PostgreSQL of four minutes."""

LOG = get_logger("blobs")


class Announcement:
    """The objects that one upload, or one inspection, writes; at the end of the block those without a row are due.

    The writes have to be over when the block ends: a deletion cannot find what appears later.
    """

    def __init__(self, database: Database, blobs: BlobStore, *announced: str, tenant_id: str | None = None) -> None:
        """`announced`: keys that are announced already; `tenant_id`: whose share of connections `confirm` takes."""
        self._database = database
        self._tenant_id = tenant_id
        self._blobs = blobs
        self._keys = list(announced)
        self._is_confirmed = False
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._renewals = asyncio.create_task(self._renew_until_over(), name="announcement")
        return self

    async def _renew_until_over(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), RENEWAL_SECONDS)
                return
            with suppress(Unavailable):  # the next renewal may do
                await self._renew()

    async def _renew(self, tenant_id: str | None = None) -> set[str]:
        if not self._keys:
            return set()
        async with self._database.connect(tenant_id) as tx:
            return await rows.renew(tx, self._keys)

    async def announce(self, keys: list[str]) -> None:
        """Announce objects before they are written.

        Raises:
            Unavailable: PostgreSQL is away; none of them may be written.
        """
        self._keys += keys  # first, so that they are let go even if this is cut off
        async with self._database.connect() as tx:
            await rows.announce(tx, keys)

    async def confirm(self) -> None:
        """Make sure that the objects, all written by now, can be adopted; renewals end.

        Raises:
            StorageUnavailable: the process stood still for so long that the sweep has taken one of them.
            Unavailable: PostgreSQL is away.
        """
        await self._end_renewals()
        if await self._renew(self._tenant_id) != set(self._keys):
            raise StorageUnavailable("The file took so long that its upload was given up; send it again.")
        self._is_confirmed = True

    async def _end_renewals(self) -> None:
        """Wait for the last renewal, which could otherwise overtake the end."""
        self._over.set()
        await self._renewals

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._end_renewals()
        if not self._keys:
            return
        try:
            async with self._database.connect() as tx:
                known = await rows.let_go(tx, self._keys)
        except Unavailable:  # their time runs out, and the sweep finds them then
            return
        if not self._is_confirmed:
            await self._delete([key for key in self._keys if key not in known])

    async def _delete(self, swept: list[str]) -> None:
        """Delete objects that were written after the sweep had deleted them: no row knows of them any more."""
        for key in swept:
            LOG.warning("blobs.written_late", key=key)
            with suppress(StorageUnavailable):
                await self._blobs.delete(key)
