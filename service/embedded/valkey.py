"""The embedded Valkey (or Redis): started as a child on a unix socket."""

import signal
import socket
from collections.abc import Callable

from service.embedded import leftovers
from service.embedded.binaries import ValkeyProgram
from service.embedded.child import Child
from service.embedded.errors import EmbeddedError
from service.embedded.layout import Layout

SOCKET_NAME = "redis.sock"
MAX_CLIENTS = 1000  # several test processes with a pool each, within the usual limit of 1024 open files
READY_LIMIT_SECONDS = 30.0  # it loads its file first; what is in it is small
PROBE_SECONDS = 1.0
STOP_SECONDS = 10.0  # it writes its file to disk before it ends


class ValkeyServer:
    """One Valkey server on a unix socket."""

    def __init__(self, layout: Layout, program: ValkeyProgram, *, durable: bool, say: Callable[[str], None]) -> None:
        """Describe the server; nothing starts yet."""
        self._layout = layout
        self._program = program
        self._durable = durable
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
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._layout.queue),
            "pidfile": str(pid_file),
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            "appendfsync": "everysec",
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

    def _ready(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(PROBE_SECONDS)
            try:
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")  # "-LOADING" means: wait
            except OSError:
                return False
