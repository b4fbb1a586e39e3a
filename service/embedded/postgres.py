"""The embedded PostgreSQL: made on first use, started as a child, stopped fast and cleanly."""

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

from service.embedded import identity as identities
from service.embedded import leftovers
from service.embedded.binaries import PostgresPrograms
from service.embedded.child import Child, clean_environment
from service.embedded.errors import EmbeddedError
from service.embedded.folder import make_private
from service.embedded.layout import Layout

ADMINISTRATOR = "postgres"
PORT = 5432  # only names the socket file; nothing listens on TCP
BUILTIN_LOCALE_MAJOR = 17  # the first with C.UTF-8 of its own: the same sorting on every machine
MAX_CONNECTIONS = 200  # several test processes with a pool each
SHARED_BUFFERS = "64MB"  # small enough for a laptop and a container's default /dev/shm
READY_LINE = 7  # of postmaster.pid, counted from 0

MAKE_LIMIT_SECONDS = 120.0  # initdb takes 1 s; a busy, cold machine has been seen to take 20
READY_LIMIT_SECONDS = 60.0  # recovery after a crash replays the log first
QUERY_LIMIT_SECONDS = 60.0
FAST_STOP_SECONDS = 15.0  # writes a checkpoint
IMMEDIATE_STOP_SECONDS = 5.0  # writes nothing


class PostgresServer:
    """One PostgreSQL server on a unix socket."""

    def __init__(
        self, layout: Layout, programs: PostgresPrograms, *, durable: bool, say: Callable[[str], None]
    ) -> None:
        """Describe the server; nothing starts yet."""
        self._layout = layout
        self._programs = programs
        self._durable = durable
        self._say = say
        self._log = layout.logs / "postgres.log"
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The postmaster's process id; raises EmbeddedError when it was not started."""
        if self._child is None:
            raise EmbeddedError("PostgreSQL is not running: start it first.")
        return self._child.pid

    def begin(self) -> None:
        """Make the cluster if there is none, and start the server anew without waiting for it."""
        self.begin_stop()
        self.finish_stop()
        leftovers.clear(self._layout.cluster, self._layout.cluster / "postmaster.pid", signal.SIGINT, self._say)
        # With nobody at work here these are stale; PostgreSQL itself would believe a reused pid, and refuse for ever.
        socket_file = self._layout.sockets / f".s.PGSQL.{PORT}"
        for stale in (self._layout.cluster / "postmaster.pid", socket_file, Path(f"{socket_file}.lock")):
            stale.unlink(missing_ok=True)
        if not (self._layout.cluster / "PG_VERSION").exists():
            self._make_cluster()
        settings = {
            "listen_addresses": "",
            "port": str(PORT),
            "unix_socket_directories": str(self._layout.sockets),
            "unix_socket_permissions": "0700",
            "max_connections": str(MAX_CONNECTIONS),
            "shared_buffers": SHARED_BUFFERS,
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_checkpoints": "off",
            "jit": "off",
            # A segment of the log that is done with is removed, not kept under a new name with erased words in it.
            "wal_recycle": "off",
        }
        if not self._durable:
            # Tests make hundreds of databases that live for a moment, and vacuum would visit one every 0.1 s.
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._child = self._run("PostgreSQL", "postgres", "-D", str(self._layout.cluster), *options)

    def wait_ready(self) -> None:
        """Wait until it accepts connections; raises EmbeddedError with the end of its log when it fails."""
        if self._child is None:
            raise EmbeddedError("PostgreSQL is not running: start it first.")
        self._child.wait_until_ready(self._ready, READY_LIMIT_SECONDS)

    def create_database(self, name: str) -> None:
        """Create the database if it is missing; raises EmbeddedError when that fails."""
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", name):
            raise EmbeddedError(f"{name!r} cannot name a database: use lower-case letters, digits and underscores.")
        query = (
            f"SELECT 'CREATE DATABASE {name}' "  # noqa: S608 - the name was checked above
            f"WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \\gexec\n"
        )
        psql = [str(self._programs.folder / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(  # noqa: S603 - the name in the query was checked
            [*psql, "-h", str(self._layout.sockets), "-p", str(PORT), "-U", ADMINISTRATOR, "-d", "postgres"],
            input=query,
            capture_output=True,
            text=True,
            env=clean_environment(),
            timeout=QUERY_LIMIT_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise EmbeddedError(f"Cannot create the database {name}; mend what psql tells: {done.stderr.strip()}")

    def begin_stop(self) -> None:
        """Ask for a fast stop: connections are cut, what is committed is kept."""
        if self._child is not None:
            self._child.send(signal.SIGINT)

    def finish_stop(self) -> None:
        """Wait for the stop, and press harder when it takes too long."""
        if self._child is None:
            return
        if not self._child.wait(FAST_STOP_SECONDS):
            self._child.send(signal.SIGQUIT)
            if not self._child.wait(IMMEDIATE_STOP_SECONDS):
                self._child.kill()
        self._child = None

    def _make_cluster(self) -> None:
        """Make the cluster beside its place first, so that an interrupted start leaves no half of one."""
        fresh = self._layout.cluster.with_name(f"{self._layout.cluster.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        make_private(fresh, identities.owners(self._layout.identity))
        identities.give(fresh, self._layout.identity)
        options = ["-E", "UTF8", "--auth=trust", "-N", "--no-instructions", "--locale=C"]
        if self._programs.major >= BUILTIN_LOCALE_MAJOR:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        making = self._run("initdb", "initdb", "-D", str(fresh), "-U", ADMINISTRATOR, *options)
        try:
            making.wait_for_success(MAKE_LIMIT_SECONDS)
        finally:
            making.kill()
        if self._layout.cluster.exists():
            self._layout.cluster.rmdir()  # only ever empty here: it holds no PG_VERSION
        fresh.rename(self._layout.cluster)

    def _run(self, name: str, program: str, *arguments: str) -> Child:
        return Child(
            name,
            [str(self._programs.folder / program), *arguments],
            identity=self._layout.identity,
            death_signal=signal.SIGINT,
            log=self._log,
        )

    def _ready(self) -> bool:
        try:
            lines = (self._layout.cluster / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return False
        if len(lines) <= READY_LINE or lines[READY_LINE].strip() != "ready":
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(str(self._layout.sockets / f".s.PGSQL.{PORT}")) == 0
