"""When keys were used last: noted in memory, and written together once a minute, so no request waits for it."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

from service.commands.api_keys import note_uses
from service.domain.errors import Unavailable
from service.domain.ticket import Credential
from service.log import get_logger
from service.store.engine import Database

WRITE_SECONDS = 60.0
"""One small statement a minute for all keys of a process; what is noted is as late."""

LAST_WRITE_SECONDS_MAX = 1.0
"""At a stop: a PostgreSQL that hangs must not hold it up."""

LOG = get_logger("key_uses")


class KeyUses:
    """The keys that this process has seen since it wrote last."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._used: dict[UUID, float] = {}
        self._writing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write."""
        self._writing = asyncio.create_task(self._write_on(), name="key-uses")

    async def stop(self) -> None:
        """Write what is left, if PostgreSQL takes it at once."""
        if self._writing is None:
            return
        self._writing.cancel()
        await asyncio.wait([self._writing])
        try:
            async with asyncio.timeout(LAST_WRITE_SECONDS_MAX):
                await self.write()
        except TimeoutError:
            LOG.warning("key_uses.lost", keys=len(self._used))

    def note(self, credential: Credential) -> None:
        """Note that a key is used now."""
        if credential.key_id is not None:
            self._used[credential.key_id] = time.monotonic()

    async def write(self) -> None:
        """Write what was noted; while PostgreSQL is away it stays noted."""
        used, self._used = self._used, {}
        if not used:
            return
        now = time.monotonic()
        try:
            async with self._database.connect() as tx:
                await note_uses(tx, {key_id: now - moment for key_id, moment in used.items()})
        except BaseException as error:
            self._used = used | self._used  # what was noted is written the next time
            if not isinstance(error, Unavailable):
                raise

    async def _write_on(self) -> None:
        while True:
            await asyncio.sleep(WRITE_SECONDS)
            try:
                await self.write()
            except Exception:  # the next minute may go well: a fault here must not end the writing
                LOG.exception("key_uses.broke")
