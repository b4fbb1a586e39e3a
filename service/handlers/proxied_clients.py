"""The clients of trusted proxies: how many requests of one of them are under way at once.

A proxy's connections carry the requests of many clients, so an address is counted by its requests instead of by its
connections. Of a client that connects itself `Admission` counts the connections, and no more requests than those are
under way.
"""

from __future__ import annotations

from collections import Counter

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from service.domain.errors import TooManyConnections
from service.handlers.refusing import refusing
from service.rates import address_in, site_of


class ProxiedClients:
    """Wraps the app of a web process behind trusted proxies; the scope's client is the one that the proxy names.

    Where it names no address, the client has none: so no text of its own making reaches logs and limits.
    """

    def __init__(self, app: ASGIApp, per_address: int) -> None:
        self._app = app
        self._per_address = per_address
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it where its client has too many under way."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        client = scope["client"]
        address = None if client is None else address_in(client[0])
        scope["client"] = None if client is None or address is None else (address, client[1])
        site = site_of(address)
        if self._under_way[site] >= self._per_address:
            error = TooManyConnections(
                f"Your address has {self._per_address:,} requests under way in this process, as many as one address "
                "may; wait for some of them."
            )
            await refusing(error)(scope, receive, send)
            return
        self._under_way[site] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[site] -= 1
            if not self._under_way[site]:
                del self._under_way[site]
