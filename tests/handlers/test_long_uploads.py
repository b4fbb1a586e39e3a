"""Uploads that last: announced for minutes at a time, and renewed while their process lives."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from eventually import until
from forms import Exchange

from service import announcements

SECONDS_LEFT = "SELECT extract(epoch FROM due_at - clock_timestamp())::float8 FROM loose_blobs"


class SlowClient:
    """A client that sends half of a file, and the rest when it may."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.may_end = asyncio.Event()
        self._sent = 0

    async def receive(self) -> dict[str, Any]:
        self._sent += 1
        if self._sent == 1:
            return {"type": "http.request", "body": b"first half, ", "more_body": True}
        self.has_begun.set()
        await self.may_end.wait()
        return {"type": "http.request", "body": b"second half", "more_body": False}


async def uploaded(own: Any, meanwhile: Callable[[], Awaitable[None]]) -> Exchange:
    """What became of an upload while which `meanwhile` was done."""
    client = SlowClient()
    exchange = Exchange(own.edge, "POST", f"/api/v1{await own.open_session()}", {"Authorization": f"Bearer {own.key}"})
    sending = asyncio.create_task(exchange.run(client.receive))
    await client.has_begun.wait()
    await meanwhile()
    client.may_end.set()
    await sending
    return exchange


async def test_an_upload_that_goes_on_is_renewed_and_kept(own_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announcements, "RENEWAL_SECONDS", 0.02)
    async with own_app() as own:

        async def is_renewed() -> bool:
            ((left,),) = await own.sql(SECONDS_LEFT)
            return bool(200 < left < 600)

        async def let_time_pass() -> None:
            await own.sql("UPDATE loose_blobs SET due_at = clock_timestamp() + interval '20 seconds'")
            await until(is_renewed)

        exchange = await uploaded(own, let_time_pass)

        assert exchange.status == 201
        assert await own.left() == {"attachments": 1, "blobs": 1, "objects": 1, "tenant_storage": 1}
        assert await own.violations() == []


async def test_an_upload_that_the_sweep_gave_up_is_refused_and_leaves_nothing(own_app: Any) -> None:
    """Its process stood still for minutes, and the sweep found nothing to delete yet."""
    async with own_app() as own:

        async def give_it_up() -> None:
            await own.sql("UPDATE loose_blobs SET due_at = clock_timestamp()")
            assert await own.left() == {}

        exchange = await uploaded(own, give_it_up)

        assert (exchange.status, json.loads(exchange.body)["code"]) == (503, "unavailable")
        assert await own.left() == {}
        assert await own.violations() == []
