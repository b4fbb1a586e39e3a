"""The web process: `python -m service`, as `holdfast serve` runs it."""

from __future__ import annotations

import contextlib
import os
import sys
from types import FrameType

import uvicorn

from service.app import create_app
from service.handlers.edge import Edge
from service.log import configure_logging
from service.settings import SettingsError, read_settings

GRACE_SECONDS = 15
"""What requests in flight get to finish at a stop: below the supervisor's 20 s."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s after which common proxies drop an idle connection: they close, not we, so no request is cut."""

BACKLOG_CONNECTIONS = 2048

STARTUP_FAILED = 3
"""As `uvicorn.run` says it."""


class DrainingServer(uvicorn.Server):
    """Ends the streams as soon as it is asked to stop: uvicorn itself would wait for them, and they for ever."""

    def __init__(self, config: uvicorn.Config, app: Edge) -> None:
        super().__init__(config)
        self._app = app

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
