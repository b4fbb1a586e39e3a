"""The database handle: statements declared with SQLAlchemy Core, compiled once, run by asyncpg.

Compiling at import and running on asyncpg costs half the CPU per statement of going through SQLAlchemy's engine
(see `docs/decisions/0002-core-builds-asyncpg-runs.md`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.sql.elements import CompilerElement

from service.domain.errors import Unavailable

Row = asyncpg.Record

ACQUIRE_SECONDS_MAX = 3.0
"""How long a request waits for a connection before it is told to come back: a client's patience, not a deadlock's."""

CONNECT_SECONDS_MAX = 3.0
COMMAND_SECONDS_MAX = 8.0
"""Above `statement_timeout`: it fires only when the server itself has stopped answering."""

LIMITS_OF_A_CONNECTION = {
    "application_name": "holdfast",
    "timezone": "UTC",
    # Every statement of the product takes milliseconds; one that takes seconds is stuck.
    "statement_timeout": "5s",
    # A row lock is held for one commit; whoever waits longer is told to come back.
    "lock_timeout": "3s",
    # A process that dies between two statements must not hold a session's lock.
    "idle_in_transaction_session_timeout": "5s",
    # Every statement here touches few rows by index; compiling them to machine code costs more than it saves.
    "jit": "off",
}

DATABASE_TROUBLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""What asyncpg raises when the server is away, starting, stopping, full or too busy: the caller may try again."""

DIALECT = asyncpg_dialect.dialect()  # type: ignore[no-untyped-call]
POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


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
        return [parameters[name] for name in self._names]


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


class QuietConnection(asyncpg.Connection):
    """A connection that is returned to the pool without a reset.

    Nothing here leaves state on a connection (no temporary tables, no session settings, no listeners, only
    transaction-scoped advisory locks), and the reset would be one more round trip for every request.
    """

    __slots__ = ()

    def get_reset_query(self) -> str:
        """No statement is needed."""
        return ""


class Database:
    """A pool of connections, and the two ways to use one: a transaction, or single statements."""

    def __init__(self, url: str, *, connections_max: int) -> None:
        self._url = plain_url(url)
        self._connections_max = connections_max
        self._pool: asyncpg.Pool[Row] | None = None

    async def open(self) -> None:
        """Make the pool. Nothing is connected yet: the service starts, and says so, while PostgreSQL is away."""
        self._pool = await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=self._connections_max,
            connection_class=QuietConnection,
            init=_prepare,
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

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Tx]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Raises:
            Unavailable: PostgreSQL is away, stopping, full or too busy.
        """
        with trouble_is_unavailable():
            async with self._acquired() as connection, connection.transaction():
                yield Tx(connection)

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Tx]:
        """Single statements, each its own transaction: for reads, and for writes that are one statement.

        Raises:
            Unavailable: PostgreSQL is away, stopping, full or too busy.
        """
        with trouble_is_unavailable():
            async with self._acquired() as connection:
                yield Tx(connection)

    @asynccontextmanager
    async def _acquired(self) -> AsyncIterator[PoolConnectionProxy[Row]]:
        if self._pool is None:
            raise Unavailable
        connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS_MAX)
        try:
            yield connection
        finally:
            await self._pool.release(connection)


@contextmanager
def trouble_is_unavailable() -> Iterator[None]:
    """Name every way of being out of reach by one error."""
    try:
        yield
    except DATABASE_TROUBLE as trouble:
        raise Unavailable from trouble


async def _prepare(connection: asyncpg.Connection[Row]) -> None:
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", format="tuple", encoder=_time_to_wire, decoder=_time_from_wire
    )


def _time_to_wire(moment: datetime) -> tuple[int]:
    return ((moment - POSTGRES_EPOCH) // timedelta(microseconds=1),)


def _time_from_wire(wire: tuple[int]) -> datetime:
    moment = POSTGRES_EPOCH + timedelta(microseconds=wire[0])
    if moment.microsecond:
        return moment
    return WholeSecond.combine(moment.date(), moment.time(), tzinfo=UTC)


def plain_url(url: str) -> str:
    """The URL as asyncpg takes it: any of `postgres://`, `postgresql://` and `postgresql+asyncpg://`."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in {"postgres", "postgresql"}:
        raise ValueError("DATABASE_URL must start with postgresql:// (such as postgresql://user:password@host/name)")
    return f"postgresql://{rest}"
