"""Which connections a process has: how many, from which addresses, and which have gone longest without a request.

Where there is no place for a new one, the connection that has been idle longest is dropped for it: its client connects
again where it needs to, so a flood of idle connections shuts nobody out. Connections from trusted proxies carry the
requests of many clients. They count for the process alone, and are dropped last.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from typing import Protocol

from service.domain.errors import DomainError, ProcessFull, TooManyConnections
from service.rates import site_of

TOO_MANY = "This process has as many connections as it takes; try again in a moment."

NEARLY_FULL = 0.75
"""The share of a process's connections from which on it keeps idle ones for a short time only."""


class Droppable(Protocol):
    """A connection, as it is admitted."""

    def drop(self) -> None:
        """Close it, though its client may have wanted to go on."""


class Admission:
    """The connections of one process, `connections_max` in all and `per_address` of one address."""

    def __init__(self, connections_max: int, per_address: int, proxies: Sequence[str] = ()) -> None:
        self._connections_max = connections_max
        self._per_address = per_address
        self._proxies = [ip_network(proxy) for proxy in proxies]
        self._sites: dict[Droppable, str | None] = {}
        """For which address each connection counts; None: a trusted proxy's, or of a Unix socket."""
        self._counts: dict[str, int] = {}
        # In the order in which they became idle: of each address, of all, and of trusted proxies.
        self._idle_at: dict[str, dict[Droppable, None]] = {}
        self._idle: dict[Droppable, None] = {}
        self._idle_of_proxies: dict[Droppable, None] = {}

    @property
    def is_nearly_full(self) -> bool:
        """Whether so many connections are open that idle ones should end soon."""
        return len(self._sites) >= self._connections_max * NEARLY_FULL

    def admit(self, connection: Droppable, address: str | None) -> DomainError | None:
        """Give a new connection a place, idle as it is; a refusal where none can be made free.

        `address` is the peer's, None for a Unix socket.
        """
        site = None if address is None or self._is_trusted(address) else site_of(address)
        if site is not None and self._counts.get(site, 0) >= self._per_address:
            if not self._drop_first(self._idle_at.get(site, {})):
                return TooManyConnections(
                    f"Your address has {self._per_address:,} connections to this process, as many as one address may; "
                    "close some first."
                )
        elif len(self._sites) >= self._connections_max and not self._drop_first(self._idle or self._idle_of_proxies):
            return ProcessFull(TOO_MANY)
        self._sites[connection] = site
        if site is not None:
            self._counts[site] = self._counts.get(site, 0) + 1
            self._idle_at.setdefault(site, {})
        self.note_idle(connection)
        return None

    def _is_trusted(self, address: str) -> bool:
        try:
            parsed = ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._proxies)

    def _drop_first(self, idle: dict[Droppable, None]) -> bool:
        longest_idle = next(iter(idle), None)
        if longest_idle is None:
            return False
        self.leave(longest_idle)
        longest_idle.drop()
        return True

    def note_idle(self, connection: Droppable) -> None:
        """Note that nothing of a connection is being answered, from now on."""
        if connection not in self._sites:
            return
        site = self._sites[connection]
        if site is None:
            self._idle_of_proxies[connection] = None
        else:
            self._idle[connection] = None
            self._idle_at[site][connection] = None

    def note_busy(self, connection: Droppable) -> None:
        """Note that a request of a connection is being answered: it is not dropped meanwhile."""
        self._idle.pop(connection, None)
        self._idle_of_proxies.pop(connection, None)
        site = self._sites.get(connection)
        if site is not None:
            self._idle_at[site].pop(connection, None)

    def is_of_proxy(self, connection: Droppable) -> bool:
        """Whether a trusted proxy, or a Unix socket, is at the other end."""
        return self._sites.get(connection, "") is None

    def leave(self, connection: Droppable) -> None:
        """Give a place back; of a connection that has none nothing happens."""
        self.note_busy(connection)
        site = self._sites.pop(connection, None)
        if site is None:
            return
        self._counts[site] -= 1
        if not self._counts[site]:
            del self._counts[site], self._idle_at[site]
