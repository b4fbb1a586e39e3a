"""Clients of two processes that share PostgreSQL and Redis and nothing else, and reads until copies answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from eventually import until

BASE = "http://holdfast.test/api/v1"


@asynccontextmanager
async def two_of(running_app, client_of, settings, key: str) -> AsyncIterator[tuple[httpx2.AsyncClient, ...]]:
    async with (
        running_app(settings) as one,
        running_app(settings) as other,
        client_of(one, key) as first,
        client_of(other, key) as second,
    ):
        first.base_url = second.base_url = httpx2.URL(BASE)
        yield first, second


async def opened(client: httpx2.AsyncClient, **fields: Any) -> str:
    """The path of a new session."""
    answer = await client.post("/sessions", json={"agent_id": "agent", "activate": True} | fields)
    assert answer.status_code == 201, answer.text
    return f"/sessions/{answer.json()['id']}"


async def copied(client: httpx2.AsyncClient, *paths: str) -> None:
    """Read until the answers come from copies."""
    for path in paths:

        async def is_copied(path: str = path) -> bool:
            return (await client.get(path)).headers["X-Cache"] == "hit"

        await until(is_copied)
