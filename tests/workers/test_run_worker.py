"""A worker process from its start to its stop: jobs, sweeps, the sign of life, and nothing lost on the way."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from arq.constants import in_progress_key_prefix
from conversations import let_its_time_pass, opened, query, said, service_of
from eventually import DEADLINE_SECONDS, until
from sealing import SECRET
from workshop import POLL_SECONDS, url_of

from service.domain.caller import Caller
from service.domain.work import Queue
from service.embedded.servers import EmbeddedServers, as_serving
from service.queue import RELAY_EVENTS, open_queue
from service.settings import Settings
from service.store import outbox
from service.store.engine import Database
from service.store.heartbeats import locks
from workers import main
from workers.inspection.messages import Layer
from workers.main import run_worker

NEVER_SECONDS = 3600.0
SOON_SECONDS = 0.05


@pytest.fixture
def caller() -> Caller:
    return service_of("tenant")


@asynccontextmanager
async def running(database_url: str, redis_url: str, queue: Queue = Queue.EVENTS) -> AsyncIterator[asyncio.Event]:
    """A worker that runs until the block ends, or until its stop event is set."""
    stop = asyncio.Event()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            database_url=as_serving(database_url), redis_url=redis_url, data_dir=Path(folder), secret=SECRET
        )
        async with _working(settings, queue, stop):
            yield stop


@asynccontextmanager
async def _working(settings: Settings, queue: Queue, stop: asyncio.Event) -> AsyncIterator[None]:
    working = asyncio.create_task(run_worker(settings, queue, stop), name="worker")
    try:
        yield
        assert stop.is_set() or not working.done(), "the worker ended by itself"
    finally:
        stop.set()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await working


async def ring(redis_url: str) -> None:
    redis = open_queue(redis_url, timeout_seconds=DEADLINE_SECONDS)
    await redis.enqueue_job(RELAY_EVENTS)
    await redis.aclose(close_connection_pool=True)


def relayed(database: Database, events: int) -> Callable[[], Awaitable[bool]]:
    async def are_relayed() -> bool:
        rows = await query(database, "SELECT (SELECT count(*) FROM outbox), (SELECT relayed_total FROM relay_progress)")
        return tuple(rows[0]) == (0, events)

    return are_relayed


async def heartbeats(database: Database) -> list[str]:
    return [row["queue"] for row in await query(database, "SELECT queue FROM worker_heartbeats")]


def heard(database: Database, queue: Queue) -> Callable[[], Awaitable[bool]]:
    async def is_heard() -> bool:
        return await heartbeats(database) == [queue.value]

    return is_heard


@pytest.mark.parametrize("queue", Queue)
async def test_each_worker_gives_a_sign_of_life_while_it_runs_and_none_afterwards(
    own_database_url: str, own_database: Database, valkey: EmbeddedServers, queue: Queue
):
    async with running(own_database_url, url_of(valkey), queue):
        await until(heard(own_database, queue))

    assert await heartbeats(own_database) == []


async def test_the_worker_of_files_says_which_locks_its_children_have(
    own_database_url: str, own_database: Database, valkey: EmbeddedServers
):
    async with running(own_database_url, url_of(valkey), Queue.ATTACHMENTS):
        await until(heard(own_database, Queue.ATTACHMENTS))
        async with own_database.connect() as tx:
            said_of_locks = await locks(tx)

    held = set(Layer) if sys.platform == "linux" else set()
    assert said_of_locks == {lock.value: lock in held for lock in Layer}


async def test_sweeps_relay_and_expire_and_forget_without_any_redis(
    own_database_url: str,
    own_database: Database,
    caller: Caller,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    for name in ("SWEEP_SECONDS", "EXPIRY_SECONDS", "FORGET_SECONDS", "BEAT_SECONDS"):
        monkeypatch.setattr(main, name, SOON_SECONDS)
    session, over = await opened(own_database, caller), await opened(own_database, caller)
    await let_its_time_pass(own_database, over.id)
    await query(
        own_database,
        "INSERT INTO idempotency_keys (id, tenant_id, fingerprint, created_at) "
        "VALUES ('old', 'tenant', '', now() - interval '25 hours'), ('new', 'tenant', '', now())",
    )

    async with running(own_database_url, f"unix://{tmp_path}/nobody.sock"):
        await until(relayed(own_database, 5))
        await said(own_database, caller, session.id, "a", "b")
        await until(relayed(own_database, 7))
        await until(heard(own_database, Queue.EVENTS))

        async def forgotten() -> bool:
            rows = await query(own_database, "SELECT id FROM idempotency_keys")
            return [row["id"] for row in rows] == [b"new"]

        await until(forgotten)
    told = await query(own_database, "SELECT type FROM events WHERE session_id = $1 ORDER BY seq", over.id)
    assert [row["type"] for row in told] == ["session.created", "session.activated", "session.expired"]


async def test_the_doorbell_alone_is_enough_before_and_after_redis_was_away(
    own_database_url: str,
    own_database: Database,
    caller: Caller,
    valkey: EmbeddedServers,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(main, "SWEEP_SECONDS", NEVER_SECONDS)
    async with running(own_database_url, url_of(valkey)):
        await until(heard(own_database, Queue.EVENTS))
        session = await opened(own_database, caller)
        await ring(url_of(valkey))
        await until(relayed(own_database, 2))

        valkey.stop_redis()
        try:
            await said(own_database, caller, session.id, "while it is away")
        finally:
            valkey.start_redis()
        await ring(url_of(valkey))
        await until(relayed(own_database, 3))


async def test_a_stopped_worker_finishes_the_job_that_runs(
    own_database_url: str,
    own_database: Database,
    caller: Caller,
    valkey: EmbeddedServers,
    monkeypatch: pytest.MonkeyPatch,
):
    """The job is held up as by the relay of another process, so that it runs when the stop comes."""
    monkeypatch.setattr(main, "SWEEP_SECONDS", NEVER_SECONDS)
    redis = open_queue(url_of(valkey), timeout_seconds=DEADLINE_SECONDS)

    async def in_progress() -> bool:
        return bool(await redis.exists(in_progress_key_prefix + "the-job"))

    async with running(own_database_url, url_of(valkey)) as stop:
        await until(heard(own_database, Queue.EVENTS))
        await opened(own_database, caller)
        async with own_database.begin() as tx:
            await outbox.lead(tx)
            await redis.enqueue_job(RELAY_EVENTS, _job_id="the-job")
            await until(in_progress)
            stop.set()
            await until(polling_has_ended)
            await asyncio.sleep(POLL_SECONDS)
            assert await heartbeats(own_database) == ["events"]

    assert await relayed(own_database, 2)()
    assert await heartbeats(own_database) == []
    assert not await in_progress()
    assert await redis.zscore(Queue.EVENTS.key, "the-job") is None
    await redis.aclose(close_connection_pool=True)


async def polling_has_ended() -> bool:
    return not any("Worker.main" in repr(task.get_coro()) for task in asyncio.all_tasks())


async def test_a_worker_that_is_stopped_at_once_leaves_nothing(
    own_database_url: str, own_database: Database, tmp_path: Path
):
    async with running(own_database_url, f"unix://{tmp_path}/nobody.sock") as stop:
        stop.set()

    assert await heartbeats(own_database) == []


async def test_a_worker_starts_before_its_database_is_there(tmp_path: Path, valkey: EmbeddedServers):
    async with running(f"postgresql://nobody@/none?host={tmp_path}", url_of(valkey)):
        await asyncio.sleep(POLL_SECONDS)
