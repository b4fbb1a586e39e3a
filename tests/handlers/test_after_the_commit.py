"""Nobody hears of a change before it is committed: whoever looks too early finds nothing, and is not told again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import msgspec
import pytest
from eventually import DEADLINE_SECONDS, until
from patience import patience
from redis.asyncio import Redis

from service import app, queue, wakeups
from service.commands.api_keys import KeyWish, create_api_key
from service.domain.caller import Scope
from service.domain.work import Queue
from service.handlers.edge import Edge
from service.settings import Settings
from service.store.engine import Database
from service.wakeups import CHANNEL, session_key

LOCK = 0x57616974
MARKS = 5
"""So often the app itself publishes something else: what it had published, or rung, before has arrived by then."""

COMMITS_WAIT = f"""
    CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN PERFORM pg_advisory_xact_lock_shared({LOCK}); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON messages DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION wait_for_the_test();
"""
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND NOT granted"


@pytest.fixture
async def edge(
    settings: Settings, own_database_url: str, running_app: Callable[[Settings], Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Edge]:
    """An app with a database of its own; it waits for commits and for Redis for as long as the test does."""
    monkeypatch.setattr(app, "open_queue", partial(queue.open_queue, timeout_seconds=DEADLINE_SECONDS))
    monkeypatch.setattr(queue, "RING_SECONDS_MAX", DEADLINE_SECONDS)
    monkeypatch.setattr(wakeups, "PUBLISH_SECONDS_MAX", DEADLINE_SECONDS)
    with patience():
        async with running_app(msgspec.structs.replace(settings, database_url=own_database_url)) as edge:
            yield edge


@pytest.fixture
async def client(
    edge: Edge, own_database: Database, client_of: Callable[..., httpx2.AsyncClient]
) -> AsyncIterator[httpx2.AsyncClient]:
    wish = KeyWish(tenant_id="tenant", name="service", user_id=None, scopes=[Scope.ADMIN], lifetime=None)
    async with own_database.begin() as tx:
        _, secret = await create_api_key(tx, wish)
    async with client_of(edge, secret) as client:
        client.base_url = httpx2.URL("http://holdfast.test/api/v1")
        yield client


class Ear:
    """Hears what is published, and sees what was rung."""

    def __init__(self, redis: Redis, pubsub: Any) -> None:
        self._redis = redis
        self._pubsub = pubsub
        self._heard = b""

    async def until_heard(self, key: bytes) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while key not in self._heard:
                message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=DEADLINE_SECONDS)
                self._heard += b"" if message is None else message["data"]

    def has_heard(self, key: bytes) -> bool:
        return key in self._heard

    async def rings(self) -> int:
        return int(await self._redis.zcard(Queue.EVENTS.key))

    async def until_rung(self) -> None:
        await until(self.rings)

    async def forget_rings(self) -> None:
        await self._redis.delete(Queue.EVENTS.key)


@pytest.fixture
async def ear(settings: Settings) -> AsyncIterator[Ear]:
    redis = Redis.from_url(settings.redis_url)
    pubsub = redis.pubsub()
    await pubsub.subscribe(CHANNEL)
    yield Ear(redis, pubsub)
    await pubsub.aclose()
    await redis.aclose()


@asynccontextmanager
async def commits_held(url: str) -> AsyncIterator[Callable[[], Any]]:
    """While this lasts, whoever adds a message waits in its commit; gives what waits until somebody does."""
    connection = await asyncpg.connect(url)

    async def until_one_waits() -> None:
        await until(lambda: connection.fetchval(WAITING, LOCK))

    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        yield until_one_waits
    finally:
        await connection.close()


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}], ids=["without a key", "with a key"])
async def test_nobody_is_woken_and_no_bell_is_rung_before_the_commit(
    edge: Edge, client: httpx2.AsyncClient, own_database_url: str, ear: Ear, headers: dict[str, str]
):
    await ear.forget_rings()
    session = (await client.post("/sessions", json={"agent_id": "a", "activate": True})).json()["id"]
    key = session_key(UUID(session))
    await ear.until_rung()
    await ear.forget_rings()
    connection = await asyncpg.connect(own_database_url)
    await connection.execute(COMMITS_WAIT)
    await connection.close()
    async with commits_held(own_database_url) as until_one_waits:
        speaking = asyncio.create_task(
            client.post(f"/sessions/{session}/messages", json={"content": "words"}, headers=headers)
        )
        await until_one_waits()
        for _ in range(MARKS):
            mark = uuid4().bytes
            edge.app.state.parts.waker.wake(mark)
            await ear.until_heard(mark)

        assert not ear.has_heard(key)
        assert await ear.rings() == 0

    assert (await speaking).status_code == 201
    await ear.until_heard(key)
    await ear.until_rung()
