"""The one door through which requests leave for addresses that callers chose. It cannot be turned inward.

A name is resolved once; if any of its addresses is not public nothing is connected, else exactly what was looked at.
TLS and the Host header keep the name. There are no redirects, no proxies from the environment, no cookies, and no
connection is used twice: kept ones would be known by their address, not by the name that was proven.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import httpx2
import msgspec

from service.domain.address import is_public
from service.resolver import Resolve, resolve

ATTEMPT_SECONDS_MAX = 15.0
"""API 7: from the name's look-up to the answer's headers."""

CONNECT_SECONDS_MAX = 5.0
"""For TCP, and again for TLS: three addresses that take nobody fit into one attempt."""

ANSWER_BYTES_MAX = 64 * 1024
"""What is read of an answer at the most, as it comes and without unpacking it. Nothing of it is kept."""

ANSWER_SECONDS_MAX = 1.0
"""How long the rest of an answer is waited for, out of politeness: its status has come already."""

ADDRESSES_TRIED_MAX = 3
"""Of a name with several addresses, the first that takes the connection."""


class AddressRefused(Exception):
    """An address behind the name is not public."""


class NameNotFound(Exception):
    """There is no address behind the name, or nobody could be asked."""


class Answer(msgspec.Struct, frozen=True):
    """What came back: a status and the headers that matter, never a body."""

    status: int
    latency_ms: int
    retry_after: str | None


class Egress:
    """Sends one POST at a time through vetted connections; shared by all that one process sends."""

    def __init__(
        self,
        *,
        allows_private: bool = False,
        resolve: Resolve = resolve,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._allows_private = allows_private
        self._resolve = resolve
        self._transport = transport or httpx2.AsyncHTTPTransport(
            trust_env=False, limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        )

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """POST `body` to `url`, and wait for the answer's status.

        Raises:
            AddressRefused, NameNotFound: nothing was connected.
            TimeoutError: no status within 15 s.
            httpx2.TransportError, httpx2.InvalidURL: the connection failed, or what came was no HTTP.
        """
        began = time.monotonic()
        async with asyncio.timeout(ATTEMPT_SECONDS_MAX):
            response = await self._connect(httpx2.URL(url), body, headers)
        latency_ms = round((time.monotonic() - began) * 1000)
        await _read_some(response)
        return Answer(response.status_code, latency_ms, response.headers.get("retry-after"))

    async def close(self) -> None:
        """Close what is still open."""
        await self._transport.aclose()

    async def _connect(self, url: httpx2.URL, body: bytes, headers: Mapping[str, str]) -> httpx2.Response:
        port = url.port or (443 if url.scheme == "https" else 80)
        addresses = await self._resolve(url.host, port)
        if not addresses:
            raise NameNotFound
        if not self._allows_private and not all(map(is_public, addresses)):
            raise AddressRefused
        *others, last = addresses[:ADDRESSES_TRIED_MAX]
        for address in others:
            try:
                return await self._send(url, address, body, headers)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        return await self._send(url, last, body, headers)

    async def _send(self, url: httpx2.URL, address: str, body: bytes, headers: Mapping[str, str]) -> httpx2.Response:
        extensions = {"sni_hostname": url.host, "timeout": {"connect": CONNECT_SECONDS_MAX}}
        request = httpx2.Request("POST", url, content=body, headers=headers, extensions=extensions)
        request.url = url.copy_with(host=address)  # the headers are made: Host stays the name
        return await self._transport.handle_async_request(request)


async def _read_some(response: httpx2.Response) -> None:
    """Take a part of the body, so that an ordinary receiver is not cut off while it writes; whatever goes wrong."""
    read = 0
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            async for chunk in response.aiter_raw():
                read += len(chunk)
                if read >= ANSWER_BYTES_MAX:
                    break
    except (TimeoutError, httpx2.HTTPError, httpx2.StreamError):
        pass
    finally:
        await response.aclose()
