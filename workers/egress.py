"""The one door through which requests leave for addresses that callers chose. It cannot be turned inward.

For each connection a name is resolved once; if any of its addresses is not public nothing is connected, else exactly
what was looked at. TLS and the Host header keep the name, and a connection is used again under the name it was made for
and no other. There are no redirects, no proxies from the environment and no cookies.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping

import httpx2
import msgspec

from service.domain.address import is_public
from service.domain.webhook import Destination, destination_of
from service.resolver import Resolve, Resolver
from workers.connection import Connection, Head, WasClosed

ATTEMPT_SECONDS_MAX = 15.0
"""API 7: from the name's look-up to the answer's headers."""

CONNECT_SECONDS_MAX = 5.0
"""For TCP and TLS together. Two addresses that take nobody leave a third what is left of the attempt: 5 s, or 2 s after

a name that took its time.
"""

ANSWER_SECONDS_MAX = 1.0
"""How long the rest of an answer is waited for, out of politeness: its status has come already."""

ADDRESSES_TRIED_MAX = 3
"""Of a name with several addresses, the first that takes the connection."""

KEPT_SECONDS = 3.0
"""How long an open connection waits for its next request: less than most servers do (from 5 s on)."""

KEPT_MAX = 200
"""Of all names together; with TLS each costs some 60 kB."""

USED_SECONDS_MAX = 60.0
"""How old a connection gets: a name that has moved is followed after a minute."""

Connect = Callable[[str, int, ssl.SSLContext | None, str | None], Awaitable[Connection]]
"""Opens a connection to an address and a port; with TLS to somebody who proves to have the given name."""


class AddressRefused(Exception):
    """An address behind the name is not public."""


class NameNotFound(Exception):
    """There is no address behind the name, or its servers are silent."""


class Answer(msgspec.Struct, frozen=True):
    """What came back: a status and the headers that matter, never a body."""

    status: int
    latency_ms: int
    retry_after: str | None


async def connect(address: str, port: int, tls: ssl.SSLContext | None, name: str | None) -> Connection:
    """Open a connection, by the loop's own means."""
    _, opened = await asyncio.get_running_loop().create_connection(
        Connection, address, port, ssl=tls, server_hostname=name
    )
    return opened


class Kept(msgspec.Struct, frozen=True, eq=False):
    """A connection that waits for its next request."""

    connection: Connection
    opened_at: float
    closing: asyncio.TimerHandle


class Egress:
    """Sends POSTs through vetted connections; shared by all that one process sends."""

    def __init__(
        self,
        *,
        allows_private: bool = False,
        resolve: Resolve | None = None,
        connect: Connect = connect,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allows_private = allows_private
        self._resolve = resolve or Resolver().resolve
        self._connect = connect
        self._tls = tls or httpx2.create_ssl_context(trust_env=False)
        self._kept: dict[tuple[bool, str, int], list[Kept]] = {}
        self._kept_count = 0

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST `body` to `url`, and wait for the answer's status.

        Raises:
            AddressRefused, NameNotFound: nothing was connected.
            NotAsked: nobody was asked for the name, so nothing is known of this receiver.
            TimeoutError: no status within 15 s.
            OSError: the connection failed.
            BadAnswer: what came was no HTTP.
            ValueError: this URL was never checked.
        """
        began = time.monotonic()
        destination = destination_of(url)
        told = [("host", destination.authority), ("content-length", str(len(body))), *headers.items()]
        async with asyncio.timeout(ATTEMPT_SECONDS_MAX):
            connection, head, opened_at = await self._exchange(destination, told, body)
        latency_ms = round((time.monotonic() - began) * 1000)
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                goes_on = await connection.read_rest()
        except BaseException as error:
            connection.close()
            if not isinstance(error, TimeoutError):
                raise
        else:
            if goes_on:
                self._keep(destination, connection, opened_at)
            else:
                connection.close()
        return Answer(head.status, latency_ms, head.retry_after)

    async def close(self) -> None:
        """Close what is still open."""
        for kept in [one for waiting in self._kept.values() for one in waiting]:
            kept.closing.cancel()
            kept.connection.close()
        self._kept.clear()
        self._kept_count = 0

    async def _exchange(
        self, destination: Destination, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[Connection, Head, float]:
        """Over a kept connection; over a new one, if there is none, or if the receiver has closed it meanwhile."""
        while (kept := self._take(destination)) is not None:
            try:
                return kept.connection, await _asked(kept.connection, destination, headers, body), kept.opened_at
            except WasClosed:
                continue
        connection = await self._open(destination)
        return connection, await _asked(connection, destination, headers, body), time.monotonic()

    async def _open(self, destination: Destination) -> Connection:
        addresses = await self._resolve(destination.host, destination.port)
        if not addresses:
            raise NameNotFound
        if not self._allows_private and not all(map(is_public, addresses)):
            raise AddressRefused
        *others, last = addresses[:ADDRESSES_TRIED_MAX]
        for address in others:
            try:
                return await self._open_to(address, destination)
            except OSError:
                continue
        return await self._open_to(last, destination)

    async def _open_to(self, address: str, destination: Destination) -> Connection:
        tls, name = (self._tls, destination.host) if destination.is_tls else (None, None)
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            return await self._connect(address, destination.port, tls, name)

    def _take(self, destination: Destination) -> Kept | None:
        """The connection that was used last, so that those that are too many grow old."""
        waiting = self._kept.get(destination.key)
        if not waiting:
            return None
        kept = waiting[-1]
        self._forget(destination, kept)
        return kept

    def _keep(self, destination: Destination, connection: Connection, opened_at: float) -> None:
        if self._kept_count >= KEPT_MAX or time.monotonic() - opened_at > USED_SECONDS_MAX:
            connection.close()
            return
        closing = asyncio.get_running_loop().call_later(KEPT_SECONDS, connection.close)
        kept = Kept(connection, opened_at, closing)
        self._kept.setdefault(destination.key, []).append(kept)
        self._kept_count += 1
        connection.keep(lambda: self._forget(destination, kept))

    def _forget(self, destination: Destination, kept: Kept) -> None:
        kept.closing.cancel()
        waiting = self._kept.get(destination.key, [])
        if kept not in waiting:
            return
        waiting.remove(kept)
        self._kept_count -= 1
        if not waiting:
            del self._kept[destination.key]


async def _asked(connection: Connection, destination: Destination, headers: list[tuple[str, str]], body: bytes) -> Head:
    try:
        return await connection.post(destination.target, headers, body)
    except BaseException:
        connection.close()
        raise
