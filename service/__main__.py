"""The web process: `python -m service`, as `holdfast serve` runs it."""

from __future__ import annotations

import os
import sys

import uvicorn

from service.app import create_app
from service.log import configure_logging
from service.settings import SettingsError, read_settings

GRACE_SECONDS = 15
"""What requests in flight get to finish at a stop: below the supervisor's 20 s."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s after which common proxies drop an idle connection: they close, not we, so no request is cut."""

BACKLOG_CONNECTIONS = 2048


def main() -> int:
    """Serve HTTP until SIGTERM or SIGINT; 2 when the configuration cannot be used."""
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        sys.stderr.write(f"holdfast: {error}\n")
        return 2
    configure_logging(settings.log_level)
    uvicorn.run(
        create_app(settings),
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
    return 0


if __name__ == "__main__":
    sys.exit(main())
