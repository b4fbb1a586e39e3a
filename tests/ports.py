"""Ports for servers of tests that must be known before anybody listens on them."""

from __future__ import annotations

import random
import socket

PORTS = range(20_000, 30_000)
"""Below the range from which systems take the ports of outgoing connections: none takes ours while a server is away."""

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
