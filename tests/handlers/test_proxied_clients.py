"""Behind a trusted proxy an address is counted by its requests under way: the connections are the proxy's."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx2

from service.handlers.proxied_clients import ProxiedClients


async def test_what_a_proxy_says_is_an_address_or_nothing():
    seen = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        seen.append(scope["client"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    for said in ("192.0.2.1:80", "unknown", '1.2.3.4 tenant="x"'):
        transport = httpx2.ASGITransport(app=ProxiedClients(app, per_address=2), client=(said, 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://holdfast.test") as client:
            await client.get("/")

    assert seen == [("192.0.2.1", 1), None, None]


async def test_a_client_has_so_many_requests_under_way_and_another_its_own():
    begun, may_answer = asyncio.Semaphore(0), asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        begun.release()
        await may_answer.wait()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    clients = ProxiedClients(app, per_address=2)
    async with AsyncExitStack() as opened:
        one, same_site, other = [
            await opened.enter_async_context(
                httpx2.AsyncClient(
                    transport=httpx2.ASGITransport(app=clients, client=(address, 1)), base_url="http://holdfast.test"
                )
            )
            for address in ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1")
        ]
        under_way = [asyncio.create_task(client.get("/")) for client in (one, same_site)]
        for _ in under_way:
            await begun.acquire()
        refused = await one.get("/")
        beside = asyncio.create_task(other.get("/"))
        await begun.acquire()
        may_answer.set()
        answers = await asyncio.gather(*under_way, beside)
        again = await one.get("/")

    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert refused.json()["detail"].startswith("Your address has 2 requests under way in this process")
    assert [answer.status_code for answer in (*answers, again)] == [204] * 4
