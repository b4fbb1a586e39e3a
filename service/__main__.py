"""The web process: `python -m service`, as `holdfast serve` runs it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from types import FrameType

import uvicorn

from service import faults
from service.app import create_app
from service.handlers.edge import Edge
from service.log import configure_logging
from service.settings import SettingsError, read_settings

GRACE_SECONDS = 15
"""What requests in flight get to finish at a stop: below the supervisor's 20 s."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s after which common proxies drop an idle connection: they close, not we, so no request is cut."""

UNREAD_SECONDS_MAX = 60
"""How long a peer may leave what was sent to it, without taking any of it."""

BACKLOG_CONNECTIONS = 2048

STARTUP_FAILED = 3
"""As `uvicorn.run` says it."""


class DrainingServer(uvicorn.Server):
    """Ends the streams as soon as it is asked to stop: uvicorn itself would wait for them, and they for ever.

    And lets the system end connections to peers that are gone or read nothing, which uvicorn would keep as long.
    """

    def __init__(self, config: uvicorn.Config, app: Edge) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; what is accepted inherits the patience of the listening socket, on Linux."""
        await super().startup(sockets)
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            return
        for listening in (one for server in self.servers for one in server.sockets or ()):
            with socket.socket(fileno=os.dup(listening.fileno())) as listener:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS_MAX * 1000)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take the signal, and tell the app of it."""
        self._app.on_stop()
        super().handle_exit(sig, frame)


def main() -> int:
    """Serve HTTP until SIGTERM or SIGINT; 2 when the configuration cannot be used."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"holdfast: {error}\n")
        return 2
    configure_logging(settings.log_level)
    faults.arm(settings.fault)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # asyncio's own loop and parser would cost twice the CPU per request (measured), so they are no fallback.
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        # Nothing here asks for a client's address, so nobody has to be trusted to name it.
        proxy_headers=False,
        backlog=BACKLOG_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )
    server = DrainingServer(config, app)
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has stopped
        server.run()
    return 0 if server.started else STARTUP_FAILED


if __name__ == "__main__":
    sys.exit(main())
