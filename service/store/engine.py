"""The database handle: statements declared with SQLAlchemy Core, compiled once, run by asyncpg.

Compiling at import and running on asyncpg costs half the CPU per statement of going through SQLAlchemy's engine
(see `docs/decisions/0002-core-builds-asyncpg-runs.md`).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.sql.elements import CompilerElement

from service import faults
from service.domain.errors import DomainError, SearchTooSlow, TenantTooBusy, Unavailable
from service.faults import Point
from service.store.connection_shares import ConnectionShares
from service.store.connections import DATABASE_TROUBLE, LIMITS_OF_A_CONNECTION, QuietConnection

Row = asyncpg.Record

ACQUIRE_SECONDS_MAX = 3.0
"""How long a request waits for a connection before it is told to come back: a client's patience, not a deadlock's."""

CONNECT_SECONDS_MAX = 3.0
COMMAND_SECONDS_MAX = 6.0
"""Above `statement_timeout`: it fires only when the server itself has stopped answering. With the wait for a connection
it stays below the 10 s that clients commonly wait."""

SEARCH_SECONDS_MAX = 2.0
"""How long a read may take whose cost the caller decides, by filters that no index answers. An ordinary page takes

milliseconds, and a person who waits for a listing waits so long.
"""

SHARE = 4
"""The part of the connections of a process (a quarter) that is each tenant's own: four bulks at once leave no place."""

HAS_CHANGED = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
"""Whether a transaction has changed or locked a row; asked only where a fault is armed."""

DIALECT = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]


class WholeSecond(datetime):
    """A time without microseconds, marked so that it is still written with six digits (API 1)."""


class Statement:
    """A Core statement compiled to PostgreSQL's own text once, with its parameters' order."""

    __slots__ = ("_defaults", "_names", "text")

    def __init__(self, core: CompilerElement) -> None:
        compiled = core.compile(dialect=DIALECT)
        self.text = str(compiled)
        self._names: list[str] = list(getattr(compiled, "positiontup", None) or [])
        self._defaults: dict[str, Any] = {name: value for name, value in compiled.params.items() if value is not None}

    def arguments(self, parameters: dict[str, Any]) -> list[Any]:
        """The parameters' values in the order of the text's placeholders.

        Raises:
            KeyError: a parameter is missing: a mistake in the code that calls.
        """
        if self._defaults:
            parameters = self._defaults | parameters
        return list(map(parameters.__getitem__, self._names))


class Tx:
    """What every function of the store takes first: one connection, inside a transaction or on its own."""

    __slots__ = ("_connection",)

    def __init__(self, connection: PoolConnectionProxy[Row]) -> None:
        self._connection = connection

    async def row(self, statement: Statement, **parameters: Any) -> Row | None:
        """The first row, or None."""
        return await self._connection.fetchrow(statement.text, *statement.arguments(parameters))

    async def rows(self, statement: Statement, **parameters: Any) -> list[Row]:
        """All rows."""
        return await self._connection.fetch(statement.text, *statement.arguments(parameters))

    async def value(self, statement: Statement, **parameters: Any) -> Any:
        """The first column of the first row, or None."""
        return await self._connection.fetchval(statement.text, *statement.arguments(parameters))


class Database:
    """A pool of connections, and the two ways to use one: a transaction, or single statements."""

    def __init__(
        self,
        url: str,
        *,
        connections_max: int,
        tenant_connections: int | None = None,
        search_seconds: float | None = None,
    ) -> None:
        """Describe it. `tenant_connections`: a tenant's share of the connections; None: a quarter.

        `search_seconds`: what `search` allows; None: `SEARCH_SECONDS_MAX`.
        """
        self._url = plain_url(url)
        self._connections_max = connections_max
        self._pool: asyncpg.Pool[Row] | None = None
        self._shares = ConnectionShares(connections_max, tenant_connections or max(1, connections_max // SHARE))
        seconds = SEARCH_SECONDS_MAX if search_seconds is None else search_seconds
        self._search_limit = f"SET LOCAL statement_timeout = {round(seconds * 1000)}"

    async def open(self) -> None:
        """Make the pool. Nothing is connected yet: the service starts, and says so, while PostgreSQL is away."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._connections_max,
            connection_class=QuietConnection,
            timeout=CONNECT_SECONDS_MAX,
            command_timeout=COMMAND_SECONDS_MAX,
            max_cached_statement_lifetime=0,
            server_settings=LIMITS_OF_A_CONNECTION,
        )

    async def close(self) -> None:
        """Give all connections back; what is still running gets a moment, then is cut."""
        if self._pool is None:
            return
        try:
            await asyncio.wait_for(self._pool.close(), timeout=ACQUIRE_SECONDS_MAX)
        except DATABASE_TROUBLE:
            self._pool.terminate()
        self._pool = None

    def begin(self, tenant_id: str | None = None, *, one_statement: bool = False) -> Lease:
        """One transaction: committed when the block ends, rolled back when it raises.

        `tenant_id`: whose share of the connections it comes from; None: from nobody's.
        `one_statement`: the block is a single one, which is its own transaction: one round trip instead of three.

        Raises:
            Unavailable: PostgreSQL is away, stopping, full or too busy.
            TenantTooBusy: the tenant holds its whole share.
        """
        # There is no moment before a single statement commits, so where one is asked for it gets a transaction.
        in_transaction = not one_statement or faults.is_armed()
        return Lease(self._open_pool(), self._shares, tenant_id, in_transaction=in_transaction)

    def connect(self, tenant_id: str | None = None) -> Lease:
        """Single statements, each its own transaction: for reads, and for writes that are one statement.

        Raises:
            Unavailable, TenantTooBusy: as `begin`.
        """
        return Lease(self._open_pool(), self._shares, tenant_id, in_transaction=False)

    def search(self, tenant_id: str | None = None) -> Lease:
        """A transaction for a read whose cost the caller decides: each statement in it gets `search_seconds`.

        Raises:
            SearchTooSlow: one took longer.
            Unavailable, TenantTooBusy: as `begin`.
        """
        return Lease(self._open_pool(), self._shares, tenant_id, in_transaction=True, limit=self._search_limit)

    def _open_pool(self) -> asyncpg.Pool[Row]:
        if self._pool is None:
            raise Unavailable
        return self._pool


class Lease:
    """A connection for the time of an `async with` block. A class, because nested generators cost 8 % of a request."""

    __slots__ = ("_connection", "_in_transaction", "_limit", "_pool", "_shares", "_tenant_id", "_transaction")

    def __init__(
        self,
        pool: asyncpg.Pool[Row],
        shares: ConnectionShares,
        tenant_id: str | None,
        *,
        in_transaction: bool,
        limit: str | None = None,
    ) -> None:
        self._pool = pool
        self._shares = shares
        self._tenant_id = tenant_id
        self._in_transaction = in_transaction
        self._limit = limit

    async def __aenter__(self) -> Tx:
        try:
            if not self._shares.take(self._tenant_id):
                await self._wait_for_a_place()
            try:
                self._connection = await self._pool.acquire()
                if self._in_transaction:
                    await self._begin()
            except BaseException:
                self._shares.give_back(self._tenant_id)
                raise
        except DATABASE_TROUBLE as trouble:
            raise Unavailable from trouble
        return Tx(self._connection)

    async def _wait_for_a_place(self) -> None:
        """Wait here and not in the pool, which knows nothing of tenants."""
        try:
            await self._shares.wait(self._tenant_id, ACQUIRE_SECONDS_MAX)
        except TimeoutError as late:
            if self._shares.is_at_its_share(self._tenant_id):
                raise TenantTooBusy from late
            raise

    async def _begin(self) -> None:
        self._transaction = self._connection.transaction()
        try:
            await self._transaction.start()
            if self._limit is not None:
                await self._connection.execute(self._limit)
        except BaseException as error:
            self._give_up_if_late(error)
            await self._pool.release(self._connection)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_up_if_late(error)
        try:
            try:
                if self._in_transaction:
                    await (self._commit() if kind is None else self._transaction.rollback())
            except TimeoutError as late:
                self._give_up_if_late(late)
                raise
            finally:
                try:
                    await self._pool.release(self._connection)
                finally:
                    self._shares.give_back(self._tenant_id)
        except DATABASE_TROUBLE as trouble:
            # A rollback fails only on a connection that is gone, and with it the transaction: a refusal stands.
            if isinstance(error, DomainError):
                return
            raise Unavailable from trouble
        if self._limit is not None and isinstance(error, asyncpg.QueryCanceledError):
            raise SearchTooSlow from error
        if isinstance(error, DATABASE_TROUBLE):
            raise Unavailable from error

    async def _commit(self) -> None:
        if not faults.is_armed():
            await self._transaction.commit()
            return
        has_changed = await self._connection.fetchval(HAS_CHANGED)
        if has_changed:
            faults.reach(Point.BEFORE_COMMIT)
        await self._transaction.commit()
        if has_changed:
            faults.reach(Point.AFTER_COMMIT)

    def _give_up_if_late(self, error: BaseException | None) -> None:
        """Drop the connection of a command that took too long: asyncpg would wait as long again for its cancelling."""
        if isinstance(error, TimeoutError):
            self._connection.terminate()


def written_out(moment: datetime) -> datetime:
    """The same time, such that it is written with six digits even where all six are 0 (API 1).

    For every time that goes from a row into an answer. Decoding times in Python instead would cost a page of 50 rows
    35 us (measured), this costs 3.
    """
    if moment.microsecond:
        return moment
    return WholeSecond.combine(moment.date(), moment.time(), tzinfo=UTC)


def written_out_if_any(moment: datetime | None) -> datetime | None:
    """`written_out`, or None."""
    return None if moment is None else written_out(moment)


def plain_url(url: str) -> str:
    """The URL as asyncpg takes it: any of `postgres://`, `postgresql://` and `postgresql+asyncpg://`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError("DATABASE_URL must start with postgresql:// (such as postgresql://user:password@host/name)")
    return f"postgresql://{rest}"
