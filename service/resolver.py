"""Names of the network and the addresses behind them: asked once, with a limit of time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

RESOLVE_SECONDS_MAX = 3.0
"""A name server that takes longer is in trouble."""

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""All addresses of a host, best first; none: there is no such name, or nobody could be asked."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses that this machine would connect to, whatever way `host` is written in."""
    try:
        async with asyncio.timeout(RESOLVE_SECONDS_MAX):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return []
    return list(dict.fromkeys(str(address[0]) for *_, address in found))
