"""The embedded Valkey (or Redis): started as a child on a unix socket. It keeps everything in memory, no file of it."""

import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from service.embedded import leftovers
from service.embedded.binaries import ValkeyProgram
from service.embedded.child import Child
from service.embedded.errors import EmbeddedError
from service.embedded.layout import Layout

SOCKET_NAME = "redis.sock"
MAX_CLIENTS = 1000  # several test processes with a pool each, within the usual limit of 1024 open files
READY_LIMIT_SECONDS = 30.0  # it takes 20 ms; a busy machine has been seen to take seconds
PROBE_SECONDS = 1.0
STOP_SECONDS = 10.0  # it has nothing to write
ENGINE_FOLDERS = ("valkey[0-9]*", "redis[0-9]*")  # of every engine and major version that has run here
KEPT_BY_OLDER_VERSIONS = ("appendonlydir", "appendonly.aof", "dump.rdb", "temp-*")


class ValkeyServer:
    """One Valkey server on a unix socket."""

    def __init__(self, layout: Layout, program: ValkeyProgram, *, say: Callable[[str], None]) -> None:
        """Describe the server; nothing starts yet."""
        self._layout = layout
        self._program = program
        self._say = say
        self._socket = layout.sockets / SOCKET_NAME
        self._child: Child | None = None

    @property
    def pid(self) -> int:
        """The server's process id; raises EmbeddedError when it was not started."""
        if self._child is None:
            raise EmbeddedError("Valkey is not running: start it first.")
        return self._child.pid

    def begin(self) -> None:
        """Start the server anew without waiting for it."""
        self.begin_stop()
        self.finish_stop()
        pid_file = self._layout.queue / "valkey.pid"
        leftovers.clear(self._layout.queue, pid_file, signal.SIGTERM, self._say)
        self._remove_kept_files()
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._layout.queue),
            "pidfile": str(pid_file),
            # No file: copies of what was said would stay in it after the words were erased in PostgreSQL.
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "maxclients": str(MAX_CLIENTS),
            "daemonize": "no",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._child = Child(
            "Valkey",
            [str(self._program.path), *arguments],
            identity=self._layout.identity,
            death_signal=signal.SIGTERM,
            log=self._layout.logs / "valkey.log",
        )

    def wait_ready(self) -> None:
        """Wait until it answers; raises EmbeddedError with the end of its log when it fails."""
        if self._child is None:
            raise EmbeddedError("Valkey is not running: start it first.")
        self._child.wait_until_ready(self._ready, READY_LIMIT_SECONDS)

    def begin_stop(self) -> None:
        """Ask for the stop."""
        if self._child is not None:
            self._child.send(signal.SIGTERM)

    def finish_stop(self) -> None:
        """Wait for the stop, and end it when it takes too long."""
        if self._child is None:
            return
        if not self._child.wait(STOP_SECONDS):
            self._child.kill()
        self._child = None

    def _remove_kept_files(self) -> None:
        """Remove what versions before kept on disk: words may stand in it that have been erased since."""
        for path in sorted(self._kept_files()):
            self._say(f"Removing {path}: an earlier version kept copies of messages in it, and none is needed")
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _kept_files(self) -> set[Path]:
        return {
            path
            for engine in ENGINE_FOLDERS
            for folder in self._layout.store.glob(engine)
            for name in KEPT_BY_OLDER_VERSIONS
            for path in folder.glob(name)
        }

    def _ready(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_SECONDS)
            try:
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")  # "-LOADING" means: wait
            except OSError:
                return False
