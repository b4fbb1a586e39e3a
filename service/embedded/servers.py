"""Both embedded servers of one data folder, started and stopped together."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from service.embedded.binaries import find_postgres, find_valkey
from service.embedded.errors import EmbeddedError
from service.embedded.folder import FolderLock, prepare
from service.embedded.layout import Layout, lay_out
from service.embedded.postgres import ADMINISTRATOR, PostgresServer
from service.embedded.valkey import SOCKET_NAME, ValkeyServer

__all__ = ["EmbeddedError", "EmbeddedServers", "Endpoints", "as_serving"]

SERVING_ROLE = "holdfast_app"
"""Who the processes are to PostgreSQL: they read and write, and the administrator that owns the tables migrates."""


@dataclass(frozen=True)
class Endpoints:
    """Where to connect to; None for a server that was not wanted. The database's is that of the administrator."""

    database_url: str | None
    redis_url: str | None


def as_serving(database_url: str) -> str:
    """The address of an embedded database for the role that owns nothing; migrations make it, without a password."""
    return database_url.replace(f"//{ADMINISTRATOR}@", f"//{SERVING_ROLE}@", 1)


class EmbeddedServers:
    """PostgreSQL and Valkey in one private folder; as a context manager it starts and stops them."""

    def __init__(
        self,
        folder: Path,
        *,
        postgres: bool = True,
        redis: bool = True,
        durable: bool = True,
        database: str = "holdfast",
        say: Callable[[str], None],
    ) -> None:
        """Describe the servers; `durable=False`: PostgreSQL gives up safety against power loss for speed, for tests."""
        self._folder = folder
        self._wants_postgres = postgres
        self._wants_redis = redis
        self._durable = durable
        self._database = database
        self._say = say
        self.endpoints: Endpoints | None = None
        """Where to connect to while the servers are started, else None."""
        self._lock: FolderLock | None = None
        self._postgres: PostgresServer | None = None
        self._valkey: ValkeyServer | None = None

    def __enter__(self) -> Self:
        """Start the servers."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the servers."""
        self.stop()

    def start(self) -> Endpoints:
        """Start what is wanted, both at a time, and create the database if it is missing.

        From the main thread only. Raises EmbeddedError when the folder is in use, cannot be written or was written by
        another major version, when programs are missing, or when a server fails.
        """
        if self._lock is not None:
            raise EmbeddedError("These servers are started already: stop them first.")
        began = time.monotonic()
        folder = prepare(self._folder)
        self._lock = FolderLock(folder)
        try:
            layout = self._plan(folder)
            # Valkey first: it comes up while PostgreSQL, on the very first start, is still being made.
            if self._valkey:
                self._valkey.begin()
            if self._postgres:
                self._postgres.begin()
                self._postgres.wait_ready()
                self._postgres.create_database(self._database)
                self._report("PostgreSQL", layout.postgres.version if layout.postgres else "", began)
            if self._valkey:
                self._valkey.wait_ready()
                self._report("Valkey", layout.valkey.version if layout.valkey else "", began)
        except BaseException:  # an interrupt, too, must leave no server behind
            self.stop()
            raise
        sockets = layout.sockets
        self.endpoints = Endpoints(
            database_url=f"postgresql://{ADMINISTRATOR}@/{self._database}?host={sockets}" if self._postgres else None,
            redis_url=f"unix://{sockets}/{SOCKET_NAME}?db=0" if self._valkey else None,
        )
        return self.endpoints

    def stop(self) -> None:
        """Stop both servers and free the folder; does nothing when they are stopped."""
        for server in (self._postgres, self._valkey):
            if server:
                server.begin_stop()
        for server in (self._postgres, self._valkey):
            if server:
                server.finish_stop()
        self._postgres = self._valkey = self.endpoints = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def postgres_pid(self) -> int:
        """The postmaster's process id; raises EmbeddedError when it is not started."""
        return self._running_postgres().pid

    @property
    def redis_pid(self) -> int:
        """Valkey's process id; raises EmbeddedError when it is not started."""
        return self._running_valkey().pid

    def stop_postgres(self) -> None:
        """Stop PostgreSQL alone; the folder stays ours."""
        server = self._running_postgres()
        server.begin_stop()
        server.finish_stop()

    def start_postgres(self) -> None:
        """Start PostgreSQL again, on the same socket, also after it was killed."""
        server = self._running_postgres()
        server.begin()
        server.wait_ready()

    def stop_redis(self) -> None:
        """Stop Valkey alone; the folder stays ours."""
        server = self._running_valkey()
        server.begin_stop()
        server.finish_stop()

    def start_redis(self) -> None:
        """Start Valkey again, on the same socket, also after it was killed."""
        server = self._running_valkey()
        server.begin()
        server.wait_ready()

    def _plan(self, folder: Path) -> Layout:
        layout = lay_out(
            folder, find_postgres() if self._wants_postgres else None, find_valkey() if self._wants_redis else None
        )
        if layout.store != layout.folder:
            self._say(f"The data is in {layout.store}: the servers' user cannot reach {layout.folder}")
        if layout.postgres:
            self._postgres = PostgresServer(layout, layout.postgres, durable=self._durable, say=self._say)
        if layout.valkey:
            self._valkey = ValkeyServer(layout, layout.valkey, say=self._say)
        return layout

    def _report(self, engine: str, version: str, began: float) -> None:
        self._say(f"{engine} {version} is ready ({time.monotonic() - began:.1f} s)")

    def _running_postgres(self) -> PostgresServer:
        if self._postgres is None:
            raise EmbeddedError("PostgreSQL is not one of the started servers: start them first.")
        return self._postgres

    def _running_valkey(self) -> ValkeyServer:
        if self._valkey is None:
            raise EmbeddedError("Valkey is not one of the started servers: start them first.")
        return self._valkey
