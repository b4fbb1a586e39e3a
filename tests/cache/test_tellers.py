"""Whoever was told of an event is shown no older copy by any process, though its writer died before it settled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast
from urllib.parse import urlencode
from uuid import UUID

import httpx2
import msgspec
import pytest
from conversations import query, said, service_of
from eventually import DEADLINE_SECONDS
from reading import copied

from service.commands.api_keys import KeyWish, create_api_key
from service.domain.caller import Scope
from service.domain.work import Queue
from service.handlers.cursors import write_cursor
from service.handlers.edge import Edge
from service.handlers.event_sources import FeedEvents
from service.queue import RELAY_EVENTS, open_queue
from service.settings import Settings
from service.store.engine import Database
from service.store.feed import View
from workers.jobs.relay_events import Relay
from workers.main import run_worker

BASE = "http://holdfast.test/api/v1"


class World:
    """Two web processes, a session of which copies stand, and a writer that died between its commit and its answer."""

    def __init__(
        self, settings: Settings, database: Database, edge: Edge, secret: str, tenant_id: str, other: httpx2.AsyncClient
    ) -> None:
        self.settings, self.database, self.tenant_id = settings, database, tenant_id
        self.edge, self.secret = edge, secret
        self.other = other
        """A client of the process that tells nothing."""
        self.session_id = UUID(int=0)
        self.messages = 0
        self.seq = 0
        """Of the event that nobody has been told of."""

    async def open(self) -> None:
        answer = await self.other.post("/sessions", json={"agent_id": "agent", "activate": True})
        assert answer.status_code == 201, answer.text
        self.session_id = UUID(answer.json()["id"])

    async def let_a_writer_die(self) -> None:
        """Commit messages that nobody settles, until one has left copies behind that are older."""
        while True:
            await self._until_copied()
            await said(self.database, service_of(self.tenant_id), self.session_id, "of a dead writer")
            self.messages += 1
            (row,) = await query(
                self.database, "SELECT max(seq) AS seq FROM events WHERE session_id = $1", self.session_id
            )
            self.seq = row["seq"]
            if max(await self.shown()) < self.messages:
                return

    async def shown(self) -> tuple[int, int]:
        """How many messages the other process knows of: by the session, and by its newest page."""
        whole = await self.other.get(f"/sessions/{self.session_id}")
        page = await self.other.get(f"/sessions/{self.session_id}/messages?limit=1")
        return whole.json()["message_count"], page.json()["data"][0]["seq"] if page.json()["data"] else 0

    async def _until_copied(self) -> None:
        session = f"/sessions/{self.session_id}"
        await copied(self.other, session, f"{session}/messages?limit=1")


@pytest.fixture
async def world(settings, own_database, own_database_url, running_app, client_of, tenant) -> AsyncIterator[World]:
    ours = msgspec.structs.replace(settings, database_url=own_database_url)
    wish = KeyWish(tenant_id=tenant, name="service", user_id=None, scopes=[Scope.ADMIN], lifetime=None)
    async with own_database.begin() as tx:
        _, secret = await create_api_key(tx, wish)
    async with running_app(ours) as one, running_app(ours) as two, client_of(two, secret) as other:
        other.base_url = httpx2.URL(BASE)
        made = World(ours, own_database, one, secret, tenant, other)
        await made.open()
        yield made


async def told_by_the_stream_of_the_session(world: World) -> None:
    await _until_streamed(world, f"/sessions/{world.session_id}/events/stream", after_seq=world.seq - 1)


async def told_by_the_stream_across_sessions(world: World) -> None:
    await Relay(world.database).drain()  # of a process without a cache: the event gets its place, no copy is outdated
    view = View(world.tenant_id, None)
    await _until_streamed(world, "/events/stream", cursor=write_cursor(FeedEvents(world.database, view).listing, 0))


async def told_by_a_page_of_events(world: World) -> None:
    async with _client_of(world) as client:
        page = await client.get(f"/sessions/{world.session_id}/events", params={"after_seq": world.seq - 1})

    assert [event["seq"] for event in page.json()["data"]] == [world.seq]


WAYS = (told_by_the_stream_of_the_session, told_by_the_stream_across_sessions, told_by_a_page_of_events)


@pytest.mark.parametrize("tell", WAYS, ids=lambda tell: tell.__name__)
async def test_what_was_told_is_known_to_every_copy(world: World, tell: Callable[[World], Awaitable[None]]):
    async with asyncio.timeout(DEADLINE_SECONDS):
        await world.let_a_writer_die()
        await tell(world)

        assert await world.shown() == (world.messages, world.messages)


async def test_what_the_relay_has_told_is_known_to_every_copy(world: World):
    """Once an event has left the outbox, its deliveries can be sent.

    The worker begins before any copy is made: a process that starts lets all of them lapse.
    """
    stop = asyncio.Event()
    working = asyncio.create_task(run_worker(world.settings, Queue.EVENTS, stop))
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await _until_relayed(world.database)
            await world.let_a_writer_die()
            await _ring(world.settings)
            await _until_relayed(world.database)

            assert await world.shown() == (world.messages, world.messages)
    finally:
        stop.set()
        await working


async def _ring(settings: Settings) -> None:
    redis = open_queue(settings.redis_url, timeout_seconds=DEADLINE_SECONDS)
    await redis.enqueue_job(RELAY_EVENTS)
    await redis.aclose(close_connection_pool=True)


async def _until_relayed(database: Database) -> None:
    while (await query(database, "SELECT count(*) AS waiting FROM outbox"))[0]["waiting"]:  # noqa: ASYNC110 - another process's doing, with a deadline
        await asyncio.sleep(0.01)


async def _until_streamed(world: World, path: str, **parameters: object) -> None:
    """Follow a stream of the process that tells until the event has come, and hang up.

    Not with a client: those that call an app itself wait for the end of its answer.
    """
    buffer, heard, hang_up = bytearray(), asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        await hang_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        buffer.extend(message.get("body", b""))
        assert message.get("status", 200) == 200, message
        told = [msgspec.json.decode(line[6:]) for line in bytes(buffer).splitlines() if line.startswith(b"data: ")]
        if any(event["seq"] == world.seq for event in told):
            heard.set()

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": f"/api/v1{path}", "raw_path": f"/api/v1{path}".encode(), "root_path": "",
        "query_string": urlencode(parameters).encode(), "server": ("holdfast.test", 80), "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"holdfast.test"), (b"authorization", f"Bearer {world.secret}".encode())],
    }  # fmt: skip
    streaming = asyncio.create_task(cast("Any", world.edge)(scope, receive, send))
    hearing = asyncio.create_task(heard.wait())
    await asyncio.wait([streaming, hearing], return_when=asyncio.FIRST_COMPLETED)
    hang_up.set()
    await streaming

    assert heard.is_set(), buffer


@asynccontextmanager
async def _client_of(world: World) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {world.secret}"}
    transport = httpx2.ASGITransport(app=cast("Any", world.edge))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE, headers=headers) as client:
        yield client
