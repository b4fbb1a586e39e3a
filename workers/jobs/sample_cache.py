"""Compares copies in Redis with what PostgreSQL has: that none is stale is proven elsewhere, and watched here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import cast
from uuid import UUID

import msgspec
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from service.copies.entries import Notary, Snapshot, Window, seq_of
from service.copies.names import GENERATION, SCHEMA, Kind, session_name, session_of
from service.copies.scripts import GENERATION_BYTES, MARK
from service.encoding import snapshot_of, window_of
from service.log import get_logger
from service.store import copies
from service.store.copies import WINDOW_MESSAGES
from service.store.engine import Database

SAMPLE_COPIES = 100
SCAN_KEYS = 500
SCANS_MAX = 20
"""Ten thousand keys a sweep: others than copies stand in Redis, too."""

AGAIN_SECONDS = 7.0
"""What a writer left that was killed, or is cut off from Redis, may stand until the relay has taken its event: 5 s by
its sweep, and two for the sweep itself. Whoever lives settles sooner: within 1.2 s.
"""

LOG = get_logger("cache")


class Sampled(msgspec.Struct, frozen=True):
    """A copy as it was found."""

    key: bytes
    session_id: UUID
    kind: Kind
    seq: int
    entry: Snapshot | Window


class Sampler:
    """Walks through the copies, some at a time. `pause` gives those that differ the time in which they may."""

    def __init__(
        self,
        database: Database,
        redis: ArqRedis,
        pause: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._database = database
        self._redis = redis
        self._pause = pause or partial(asyncio.sleep, AGAIN_SECONDS)
        self._notary: Notary | None = None
        self._cursor = 0
        self._ahead: list[bytes] = []
        """Keys that the walk has found and not compared yet: Redis gives as many at a time as it likes."""

    async def sweep(self) -> int:
        """Compare the next hundred copies; how many are stale. Redis away: none is compared.

        Raises:
            Unavailable: PostgreSQL is away.
        """
        if self._notary is None:
            secret = await copies.read_secret(self._database)
            if secret is None:
                return 0
            self._notary = Notary(secret)
        try:
            found = await self._read(self._notary, await self._next_keys())
            suspects = await self._differing(found)
            if suspects:
                await self._pause()
                again = await self._read(self._notary, [sampled.key for sampled in suspects])
                standing = {sampled.key: sampled.seq for sampled in again}
                # A copy that stands where it stood has had no part in a write meanwhile.
                suspects = [sampled for sampled in suspects if standing.get(sampled.key) == sampled.seq]
                suspects = await self._differing(suspects)
        except (RedisError, OSError, TimeoutError):
            return 0
        for stale in suspects:
            LOG.error("cache.stale", session_id=stale.session_id, kind=stale.kind.label, seq=stale.seq)
        if found:
            async with self._database.connect() as tx:
                await copies.count(tx, sampled=len(found), stale=len(suspects))
        return len(suspects)

    async def _next_keys(self) -> list[bytes]:
        for _ in range(SCANS_MAX):
            if len(self._ahead) >= SAMPLE_COPIES:
                break
            self._cursor, found = await self._redis.scan(self._cursor, match=SCHEMA + b"{*", count=SCAN_KEYS)
            self._ahead += [key for key in found if session_of(key) is not None]
            if self._cursor == 0:
                break
        keys, self._ahead = self._ahead[:SAMPLE_COPIES], self._ahead[SAMPLE_COPIES:]
        return keys

    async def _read(self, notary: Notary, keys: list[bytes]) -> list[Sampled]:
        """Those of these copies that a reader would be shown."""
        if not keys:
            return []
        generation, *found = await cast("Awaitable[list[bytes | None]]", self._redis.mget([GENERATION, *keys]))
        sampled = []
        for key, copy in zip(keys, found, strict=True):
            named = session_of(key)
            if copy is None or named is None or copy[len(MARK) : len(MARK) + GENERATION_BYTES] != generation:
                continue
            _, session_id, kind = named
            entry = notary.read_snapshot(key, copy) if kind is Kind.SNAPSHOT else notary.read_window(key, copy)
            if entry is not None:
                sampled.append(Sampled(key, session_id, kind, seq_of(copy), entry))
        return sampled

    async def _differing(self, found: list[Sampled]) -> list[Sampled]:
        """Those that are not what PostgreSQL has now."""
        if not found:
            return []
        differing = []
        async with self._database.connect() as tx:
            tenants = await copies.tenants(tx, [sampled.session_id for sampled in found])
            for sampled in found:
                tenant_id = tenants.get(sampled.session_id)
                if tenant_id is None or session_name(tenant_id, sampled.session_id) + sampled.kind.value != sampled.key:
                    differing.append(sampled)
                elif sampled.kind is Kind.SNAPSHOT:
                    session = await copies.snapshot(tx, tenant_id, sampled.session_id)
                    if session is None or snapshot_of(session) != sampled.entry:
                        differing.append(sampled)
                else:
                    messages = await copies.newest_messages(tx, tenant_id, sampled.session_id)
                    if messages is None or _shown(window_of(messages)) != _shown(sampled.entry):
                        differing.append(sampled)
        return differing


def _shown(entry: Snapshot | Window) -> object:
    """A window as far as pages show it: it may have grown beyond that."""
    if isinstance(entry, Snapshot):
        return entry
    has_more = entry.has_more or len(entry.messages) > WINDOW_MESSAGES
    return Window(entry.user_id, has_more, entry.messages[:WINDOW_MESSAGES])
