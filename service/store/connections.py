"""What every connection to PostgreSQL is limited to, how it goes back to the pool, and what can be wrong with one."""

from __future__ import annotations

import asyncpg

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


class QuietConnection(asyncpg.Connection):
    """A connection that is returned to the pool without a reset.

    Nothing here leaves state on a connection (no temporary tables, no session settings, no listeners, only
    transaction-scoped advisory locks), and the reset would be one more round trip for every request.
    """

    __slots__ = ()

    def get_reset_query(self) -> str:
        """No statement is needed."""
        return ""
