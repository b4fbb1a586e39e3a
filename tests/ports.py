"""Ports for servers of tests that must be known before anybody listens on them."""

from __future__ import annotations

import os
import random
import socket

FIRST_PORT = 20_000
PORTS_OF_A_PROCESS = 600
"""Below the range from which systems take the ports of outgoing connections: none takes ours while a server is away.

Sixteen processes of pytest have ports of their own: one may give a port out before its server listens on it.
"""

_number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 16
PORTS = range(FIRST_PORT + _number * PORTS_OF_A_PROCESS, FIRST_PORT + (_number + 1) * PORTS_OF_A_PROCESS)

_given: set[int] = set()
"""What was given out before: its server may be away for a while, or not have started yet."""


def free_port() -> int:
    """Find a port that nobody listens on, another one each time."""
    while True:
        port = random.choice(PORTS)  # noqa: S311 - no secret
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
