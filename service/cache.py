"""The cache: copies of two answers in Redis, written through, that are never older than what anybody was told.

*PostgreSQL decides; Redis hints.* A copy is shown only if it is proven whole (`copies/entries.py`), of the generation
that lives (`copies/scripts.py`, `copies/pulse.py`), and nobody was told of anything newer (`copies/settling.py`). What
is promised beside that, and for how long in which failure, stands in `docs/consistency.md`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID

import msgspec
from redis.asyncio import ConnectionPool

from service.copies.coalescing import Coalescer, Flights
from service.copies.entries import Addition, Notary, Snapshot, Window, numbered
from service.copies.link import Link, Trouble, new_generation
from service.copies.names import GENERATION, Kind, session_name
from service.copies.pulse import BEAT_SECONDS, CALL_SECONDS_MAX, Pulse
from service.copies.scripts import FILL, READ
from service.copies.settling import CALL_SECONDS_MAX as SETTLE_SECONDS_MAX
from service.copies.settling import Change, Settler
from service.domain.errors import Unavailable
from service.log import get_logger
from service.metrics import Metrics

READ_SECONDS_MAX = 0.1
"""A read that takes longer is a Redis in trouble; PostgreSQL answers in a hundredth of it."""

READS_AT_ONCE = 100
FILLS_AT_ONCE = 20
"""In one call: 5 MB at the most."""

FAILURES_MAX = 3
OPEN_SECONDS = 1.0
"""After three failures in a row the cache is left alone for so long; then one call finds out how it is."""

COPY_SECONDS_MAX = 50.0
"""How long a copy lives at the most: less than the shortest time that any change gives its session (a minute).

So a copy ends before its session does, whatever becomes of the session's time while it stands.
"""

MARGIN_MS = 50
"""A copy that ends with its session ends so much earlier: clocks drift."""

TOKEN_BYTES = 12
LOG = get_logger("cache")


class Outcome(StrEnum):
    """Where an answer came from, as `X-Cache` says it: from a copy, from PostgreSQL, from there without asking."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"


class Read(msgspec.Struct, frozen=True):
    """What PostgreSQL has of a session at one moment: the last event that `entry` knows, and how long it stays true.

    `lasting_ms` None: until it is changed; 0: not to be copied.
    """

    entry: Snapshot | Window
    seq: int
    lasting_ms: int | None


class _Found(msgspec.Struct, frozen=True):
    generation: bytes
    time_ms: int
    copy: bytes | None
    token: bytes | None


class _Filled(msgspec.Struct, frozen=True):
    key: bytes
    generation: bytes
    token: bytes
    seq: int
    ends_at_ms: int
    copy: bytes


class Breaker:
    """Opens after some failures in a row, for a while; then the next call is a trial."""

    def __init__(self) -> None:
        self._failures = 0
        self._closes_at = 0.0

    def is_open(self, now: float) -> bool:
        """Whether not to call."""
        return now < self._closes_at

    def fail(self, now: float) -> None:
        """Note a failure."""
        self._failures += 1
        if self._failures >= FAILURES_MAX:
            self._closes_at = now + OPEN_SECONDS

    def succeed(self) -> None:
        """Note a success."""
        self._failures = 0


class Teller(Protocol):
    """Whoever tells of events: before that, no copy may be older."""

    async def outdate(self, told: Iterable[tuple[str, UUID, int]]) -> None:
        """Return once nobody can be shown a copy of these sessions that does not know these events."""


class Cache:
    """The cache as one process sees it. `read_secret` gives what digests are made with; Unavailable: not yet."""

    def __init__(
        self,
        pool: ConnectionPool,
        read_secret: Callable[[], Awaitable[bytes | None]],
        metrics: Metrics | None = None,
        *,
        is_on: bool = True,
    ) -> None:
        self.is_on = is_on
        self._metrics = metrics or Metrics()
        self._read_secret = read_secret
        self._notary: Notary | None = None
        self._pulse = Pulse(Link(pool, CALL_SECONDS_MAX))
        self._settler = Settler(
            Link(pool, SETTLE_SECONDS_MAX), self._pulse, self._metrics.cache_failures, self._metrics.cache_unconfirmed
        )
        self._reading = Link(pool, READ_SECONDS_MAX)
        self._filling = Link(pool, READ_SECONDS_MAX)
        self._breaker = Breaker()
        self._finds: Coalescer[bytes, _Found] = Coalescer(self._find_all, READS_AT_ONCE)
        self._fills: Coalescer[_Filled, None] = Coalescer(self._fill_all, FILLS_AT_ONCE)
        self._flights: Flights[tuple[bytes, int | None], Read | None] = Flights()
        self._learning: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to renew what copies live by, and learn the secret."""
        if self.is_on:
            self._pulse.start()
            self._learning = asyncio.create_task(self._learn_secret(), name="cache-secret")

    async def stop(self) -> None:
        """Finish what was begun, and let the connections go."""
        if self._learning is not None:
            self._learning.cancel()
            await asyncio.wait([self._learning])
        await self._fills.finish()
        await self._settler.stop()
        await self._pulse.stop()
        await self._reading.close()
        await self._filling.close()

    async def read(
        self,
        kind: Kind,
        tenant_id: str,
        session_id: UUID,
        read: Callable[[int | None], Awaitable[Read | None]],
        *,
        limit: int | None = None,
    ) -> tuple[Snapshot | Window | None, Outcome]:
        """The copy of this kind, or what `read` finds in PostgreSQL for all who may see the session; None: no session.

        `read(None)` reads all that a copy is made of; it is asked for `limit`, which is less, where none will be made
        of it. Whoever gets it has to look whether the caller may.
        """
        found, outcome = None, Outcome.BYPASS
        key = session_name(tenant_id, session_id) + kind.value
        notary = self._notary
        if notary is not None and not self._pulse.is_failing and not self._breaker.is_open(self._now()):
            try:
                found, outcome = await self._finds.ask(key), Outcome.MISS
            except Trouble:
                outcome = Outcome.BYPASS
        if found is not None and found.copy is not None and notary is not None:
            entry = (notary.read_snapshot if kind is Kind.SNAPSHOT else notary.read_window)(key, found.copy)
            if entry is not None:
                self._metrics.cache_reads.labels(kind.label, Outcome.HIT.value).inc()
                return entry, Outcome.HIT
            self._metrics.cache_refusals.inc()
            self._settler.settle_later(Change(key[: -len(kind.value)]))
        self._metrics.cache_reads.labels(kind.label, outcome.value).inc()
        if found is None or notary is None:
            got = await read(limit)
        else:
            wanted = None if found.token is not None else limit
            got = await self._flights.read((key, wanted), lambda: read(wanted))
            if got is not None and found.token is not None:
                await self._fill(notary, key, found, got)
        if got is None:
            return None, outcome
        return got.entry, outcome

    async def settle(self, tenant_id: str, session_id: UUID, addition: Addition | None = None) -> None:
        """After a change of a session, and before anybody is told: let no older copy be shown.

        With `addition`, copies that stand where it began are continued; all others go.
        """
        if self.is_on:
            await self._settler.settle(Change(session_name(tenant_id, session_id), None, addition))

    async def outdate(self, told: Iterable[tuple[str, UUID, int]]) -> None:
        """Before somebody is told of these events: let no copy be shown that does not know them."""
        newest: dict[bytes, int] = {}
        for tenant_id, session_id, seq in told:
            name = session_name(tenant_id, session_id)
            newest[name] = max(seq, newest.get(name, 0))
        if self.is_on and newest:
            await self._settler.settle(*(Change(name, seq) for name, seq in newest.items()))

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _learn_secret(self) -> None:
        """Read the secret, as soon as PostgreSQL lets us. Until then copies are deleted, and neither read nor made."""
        while self._notary is None:
            try:
                secret = await self._read_secret()
            except Unavailable:
                secret = None
            if secret is None:
                await asyncio.sleep(BEAT_SECONDS)
            else:
                self._notary = self._settler.notary = Notary(secret)

    async def _find_all(self, wanted: list[bytes]) -> list[_Found]:
        keys = list(dict.fromkeys(wanted))
        token = secrets.token_bytes(TOKEN_BYTES)
        generation, time_ms, *copies = await self._call(
            self._reading.call(READ, [GENERATION, *keys], [new_generation(), token])
        )
        found: dict[bytes, _Found] = {}
        for key, copy in zip(keys, copies, strict=True):
            is_copy = isinstance(copy, bytes)
            found[key] = _Found(generation, time_ms, copy if is_copy else None, token if copy == 1 else None)
        leased: set[bytes] = set()
        answers = []
        for key in wanted:  # one lease is for one reader
            one = found[key]
            answers.append(_Found(generation, time_ms, one.copy, None) if key in leased else one)
            leased.add(key)
        return answers

    async def _fill(self, notary: Notary, key: bytes, found: _Found, got: Read) -> None:
        """Make a copy, if the lease still holds. It ends with its session, counted from before PostgreSQL was read."""
        lasting_ms = int(COPY_SECONDS_MAX * 1000)
        if got.lasting_ms is not None:
            lasting_ms = min(lasting_ms, got.lasting_ms - MARGIN_MS)
        if lasting_ms <= 0:
            return
        if isinstance(got.entry, Snapshot):
            copy = notary.write_snapshot(key, found.generation, got.seq, got.entry)
        else:
            copy = notary.write_window(key, found.generation, got.seq, got.entry)
        if copy is None or found.token is None:
            return
        try:
            await self._fills.ask(
                _Filled(key, found.generation, found.token, got.seq, found.time_ms + lasting_ms, copy)
            )
        except Trouble:  # the lease runs out, and the next reader tries again
            self._metrics.cache_fills.labels("failed").inc()

    async def _fill_all(self, fills: list[_Filled]) -> list[None]:
        arguments: list[bytes | int] = []
        for fill in fills:
            arguments += [fill.generation, fill.token, numbered(fill.seq), fill.ends_at_ms, fill.copy]
        answers = await self._call(self._filling.call(FILL, [GENERATION, *(fill.key for fill in fills)], arguments))
        for answer in answers:
            self._metrics.cache_fills.labels(answer.decode()).inc()
        return [None] * len(fills)

    async def _call(self, call: Awaitable[list[Any]]) -> list[Any]:
        try:
            answer = await call
        except Trouble:
            self._metrics.cache_failures.inc()
            self._breaker.fail(self._now())
            self._pulse.doubt()
            raise
        self._breaker.succeed()
        return answer
