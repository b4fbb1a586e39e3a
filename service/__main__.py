"""The web process: `python -m service`, as `holdfast serve` runs it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import os
import resource
import socket
import sys
from functools import partial
from types import FrameType
from typing import Any, cast

import msgspec
import uvicorn

from service import faults
from service.app import create_app
from service.draining import GRACE_SECONDS
from service.handlers.admission import Admission
from service.handlers.connections import Connection
from service.handlers.edge import Edge
from service.handlers.patience import Patience
from service.handlers.proxied_clients import ProxiedClients
from service.log import configure_logging, get_logger
from service.settings import SettingsError, read_settings, required_secrets

CANCELLED_AFTER_SECONDS = math.ceil(GRACE_SECONDS) + 1
"""When uvicorn cancels what has not even ended with the grace: below the 20 s after which supervisors kill."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s after which common proxies drop an idle connection: they close, not we, so no request is cut."""

UNREAD_SECONDS_MAX = 60
"""How long a peer may leave what was sent to it, without taking any of it."""

FILES_BESIDE_CONNECTIONS = 256
"""Open files that are no connections of clients: those to PostgreSQL and Redis, files on their way, the program."""

BACKLOG_CONNECTIONS = 2048

LOG = get_logger("server")

STARTUP_FAILED = 3
"""As `uvicorn.run` says it."""


class DrainingServer(uvicorn.Server):
    """Starts the app's drain as soon as it is asked to stop: uvicorn itself would wait for what waits, be it for ever.

    And lets the system end connections to peers that are gone or read nothing, which uvicorn would keep as long.
    """

    def __init__(self, config: uvicorn.Config, app: Edge) -> None:
        super().__init__(config)
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen; what is accepted inherits the patience of the listening socket, on Linux."""
        self._loop = asyncio.get_running_loop()
        # What the program is made of stays: to look through it again at each collection costs 7 to 15 % of the CPU per
        # request, and pauses of 50 ms (measured).
        gc.collect()
        gc.freeze()
        await super().startup(sockets)
        if self._app.metrics_port is not None:
            await self._listen_for_the_operator(self._app.metrics_port)
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            return
        for listening in (one for server in self.servers for one in server.sockets or ()):
            with socket.socket(fileno=os.dup(listening.fileno())) as listener:
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS_MAX * 1000)

    async def _listen_for_the_operator(self, port: int) -> None:
        """Listen on one more port; what came in where, the app sees by the address of the connection itself."""
        connection = partial(
            cast("Any", self.config.http_protocol_class),
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
        )
        try:
            listening = await asyncio.get_running_loop().create_server(
                connection, self.config.host, port, backlog=BACKLOG_CONNECTIONS
            )
        except OSError as error:
            LOG.error("metrics_port.unusable", port=port, error=str(error))  # noqa: TRY400 - the sentence says it all
            await self.lifespan.shutdown()
            sys.exit(STARTUP_FAILED)
        self.servers.append(listening)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop; asked twice, end what works at once, and close what is open all the same, which uvicorn would not."""
        await super().shutdown(sockets)
        if self.force_exit:
            for task in self.server_state.tasks:
                task.cancel()
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take the signal, and start the drain: in the loop, as the signal may have come in the middle of anything."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._app.drain.start)
        super().handle_exit(sig, frame)


def main() -> int:
    """Serve HTTP until SIGTERM or SIGINT; 2 when the configuration cannot be used."""
    try:
        settings = read_settings(os.environ)
        required_secrets(settings)
    except SettingsError as error:
        sys.stderr.write(f"holdfast: {error}\n")
        return 2
    configure_logging(settings.log_level)
    faults.arm(settings.fault)
    app = create_app(settings)
    patience = _patience()
    admission = Admission(patience.connections_max, settings.address_connections, settings.proxies)
    protocol = partial(
        Connection, patience=patience, drain=app.drain, admission=admission, ended=app.metrics.connections_ended
    )
    config = uvicorn.Config(
        cast("Any", ProxiedClients(app, settings.address_connections) if settings.proxies else app),
        host=settings.host,
        port=settings.port,
        # asyncio's own loop and h11 would cost twice the CPU per request (measured), so they are no fallback.
        loop="uvloop",
        http=cast("Any", protocol),
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(settings.proxies),
        forwarded_allow_ips=settings.proxies,
        backlog=BACKLOG_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=CANCELLED_AFTER_SECONDS,
    )
    server = DrainingServer(config, app)
    app.metrics.connections.set_function(lambda: len(server.server_state.connections))
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises the signal again once it has stopped
        server.run()
    return 0 if server.started else STARTUP_FAILED


def _patience() -> Patience:
    """As patient as the system allows: where it gives few open files, there are fewer connections, and no failures."""
    usual = Patience(unread_seconds=UNREAD_SECONDS_MAX)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = usual.connections_max + FILES_BESIDE_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return msgspec.structs.replace(usual, connections_max=max(1, soft - FILES_BESIDE_CONNECTIONS))
    return usual


if __name__ == "__main__":
    sys.exit(main())
