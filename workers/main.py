"""A worker process: its queue's jobs, its sweeps, its sign of life, and a stop without loss."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, assert_never, cast
from uuid import UUID

import msgspec
from arq.worker import func

from service.blobs import BlobStore
from service.cache import Cache, Teller
from service.domain.errors import Unavailable
from service.domain.work import Queue
from service.ids import new_id
from service.log import get_logger
from service.queue import (
    DELIVER_WEBHOOKS,
    INSPECT_ATTACHMENTS,
    JOBS,
    RELAY_EVENTS,
    Doorbell,
    decode_job,
    encode_job,
    open_pool,
    open_queue,
)
from service.seals import Seals
from service.settings import Settings, Switch, required_secrets
from service.store import copies, heartbeats
from service.store.engine import Database
from service.wakeups import Waker, session_key
from workers.egress import Egress
from workers.inspection.inspect import locks_that_hold
from workers.inspection.messages import Layer
from workers.jobs.delete_loose_blobs import sweep_loose_blobs
from workers.jobs.deliver_webhooks import Deliveries, deliver_webhooks
from workers.jobs.estimate_rows import sweep_row_estimates
from workers.jobs.expire_sessions import sweep_expired_sessions
from workers.jobs.expire_tool_calls import sweep_late_tool_calls
from workers.jobs.forget_idempotency_keys import sweep_idempotency_keys
from workers.jobs.forget_tickets import sweep_tickets
from workers.jobs.inspect_attachments import Inspections, inspect_attachments
from workers.jobs.relay_events import Relay, relay_events
from workers.jobs.sample_cache import Sampler
from workers.jobs.tidy_deliveries import sweep_deliveries
from workers.scratch import clear_scratch
from workers.sweeps import Sweep, sweep_until
from workers.worker import SurvivingWorker

CONNECTIONS_MAX = 4
"""Sweeps, the relay and the sign of life, each at a time; or claims, records and renewals of webhooks."""

REDIS_SECONDS_MAX = 1.0
"""A poll that takes longer is a Redis in trouble."""

POLL_SECONDS = 0.05
"""From the doorbell to the job in 35 ms at 1.6 % of a core (measured)."""

DRAIN_SECONDS = 15.0
"""What a running job gets to finish at a stop: below the supervisor's 20 s."""

SWEEP_SECONDS = 5.0
"""What a lost doorbell costs at the most."""

EXPIRY_SECONDS = 1.0
"""Nobody reads a stale status meanwhile, but whoever waits for `session.expired` waits this long."""

FORGET_SECONDS = 60.0
ESTIMATE_SECONDS = 60.0
"""Rows of gigabytes do not come within a minute, and each estimate reads up to 8 MiB of each table."""

SCRATCH_SECONDS = 60.0
"""How long the copy of a file lasts whose worker was killed, while another worker of the machine lives."""

SAMPLE_SECONDS = 10.0
BEAT_SECONDS = 5.0
QUEUE_READ_MAX = 1000
"""More than all jobs in progress together, because arq's window counts those of other workers, too."""

LOG = get_logger("worker")


class Work(msgspec.Struct, frozen=True):
    """What the worker of one queue does: jobs by name, sweeps, and what goes on until the stop."""

    jobs: dict[str, Callable[..., Awaitable[Any]]]
    sweeps: list[Sweep]
    context: dict[str, Any]
    job_seconds_max: int
    jobs_at_once: int
    until_stop: list[Callable[[asyncio.Event], Coroutine[Any, Any, None]]] = []


def work_of(
    queue: Queue,
    database: Database,
    settings: Settings,
    wake: Callable[[Queue], None],
    wake_watchers: Callable[..., None] = lambda *_: None,
    teller: Teller | None = None,
    sampler: Sampler | None = None,
) -> Work:
    """The work of each queue.

    `wake` rings a queue's worker, `wake_watchers` wakes streams by their keys. `teller` outdates copies before the
    relay tells of events, `sampler` compares them.

    Raises:
        SettingsError: deliveries are to be signed, and there is no `HOLDFAST_SECRET`.
    """

    def on_recorded(session_id: UUID) -> None:
        """Have what a worker recorded seen at once, and relayed rather than by the next sweep of the relay."""
        wake_watchers(session_key(session_id))
        wake(Queue.EVENTS)

    match queue:
        case Queue.EVENTS:
            relay = Relay(database, wake, wake_watchers, teller)
            sweeps = [
                Sweep("relay_events", SWEEP_SECONDS, relay.drain),
                Sweep("expire_sessions", EXPIRY_SECONDS, partial(sweep_expired_sessions, database, on_recorded)),
                Sweep("expire_tool_calls", EXPIRY_SECONDS, partial(sweep_late_tool_calls, database, on_recorded)),
                Sweep("forget_idempotency_keys", FORGET_SECONDS, partial(sweep_idempotency_keys, database)),
                Sweep("forget_tickets", FORGET_SECONDS, partial(sweep_tickets, database)),
                Sweep("estimate_rows", ESTIMATE_SECONDS, partial(sweep_row_estimates, database)),
            ]
            if sampler is not None:
                sweeps.append(Sweep("sample_cache", SAMPLE_SECONDS, sampler.sweep))
            return Work({RELAY_EVENTS: relay_events}, sweeps, {"relay": relay}, job_seconds_max=30, jobs_at_once=10)
        case Queue.WEBHOOKS:
            egress = Egress(allows_private=settings.webhook_allow_private)
            seals = Seals(required_secrets(settings))
            found = Deliveries(database, egress, seals, settings.webhook_host_attempts)
            return Work(
                {DELIVER_WEBHOOKS: deliver_webhooks},
                [Sweep("tidy_deliveries", SWEEP_SECONDS, partial(sweep_deliveries, database))],
                {"deliveries": found},
                job_seconds_max=10,
                jobs_at_once=2,
                until_stop=[found.work_until],
            )
        case Queue.ATTACHMENTS:
            blobs = BlobStore(settings.storage_url, settings.files_folder)
            blobs.open()
            inspections = Inspections(
                database,
                blobs,
                settings.clamd_address,
                on_recorded,
                settings.inspections,
                may_be_weak=settings.inspection_allow_weak,
            )
            return Work(
                {INSPECT_ATTACHMENTS: inspect_attachments},
                [
                    Sweep("delete_loose_blobs", SWEEP_SECONDS, partial(sweep_loose_blobs, database, blobs)),
                    Sweep("clear_scratch", SCRATCH_SECONDS, clear_scratch),
                ],
                {"inspections": inspections},
                job_seconds_max=10,
                jobs_at_once=2,
                until_stop=[inspections.work_until],
            )
        case _:
            assert_never(queue)


async def run_worker(settings: Settings, queue: Queue, stop: asyncio.Event) -> None:
    """Do the work of `queue` until `stop` is set; then finish what runs, and leave."""
    database = Database(settings.database_url, connections_max=CONNECTIONS_MAX)
    await database.open()
    redis = open_queue(settings.redis_url, timeout_seconds=REDIS_SECONDS_MAX)
    worker_id = new_id()
    bells = {rung: Doorbell(redis, rung) for rung in JOBS}
    waker = Waker(redis)
    tells = queue is Queue.EVENTS and settings.cache is Switch.ON
    cache = Cache(open_pool(settings.redis_url, None), partial(copies.read_secret, database), is_on=tells)
    sampler = Sampler(database, redis) if tells else None
    work = work_of(queue, database, settings, lambda rung: bells[rung].ring(), waker.wake, cache, sampler)
    locks = await _locks(settings) if queue is Queue.ATTACHMENTS else None
    sweeps = [*work.sweeps, Sweep("beat", BEAT_SECONDS, partial(_beat, database, worker_id, queue, locks))]
    LOG.info("worker.started", queue=queue, worker_id=worker_id)
    for bell in bells.values():
        bell.start()
    waker.start()
    cache.start()
    try:
        async with asyncio.TaskGroup() as tasks:
            for sweep in sweeps:
                tasks.create_task(sweep_until(stop, sweep), name=sweep.name)
            for go_on in work.until_stop:
                tasks.create_task(go_on(stop))
            if work.jobs:
                tasks.create_task(_work_until(stop, _arq_worker(queue, work, redis)), name="jobs")
    finally:
        for bell in bells.values():
            await bell.stop()
        await waker.stop()
        await cache.stop()
        await _leave(database, worker_id)
        await redis.aclose(close_connection_pool=True)
        await database.close()
        LOG.info("worker.stopped", queue=queue, worker_id=worker_id)


async def _locks(settings: Settings) -> dict[str, bool]:
    """Which locks the children of this worker have; what is missing is logged, this once."""
    held = await locks_that_hold()
    missing = sorted(set(Layer) - held)
    if missing and settings.inspection_allow_weak:
        LOG.warning("inspection.locks_missing", locks=missing, files="are read all the same")
    elif missing:
        LOG.error("inspection.locks_missing", locks=missing, files="fail unread")
    return {lock.value: lock in held for lock in Layer}


def _arq_worker(queue: Queue, work: Work, redis: Any) -> SurvivingWorker:
    return SurvivingWorker(
        functions=[func(cast("Any", job), name=name) for name, job in work.jobs.items()],
        queue_name=queue.key,
        redis_pool=redis,
        ctx=work.context,
        max_jobs=work.jobs_at_once,
        job_timeout=work.job_seconds_max,
        # What a job did stands in PostgreSQL; a kept result would only block its id.
        keep_result=0,
        # Sweeps repeat what failed; a job that arq repeats on its own would be one more.
        max_tries=1,
        poll_delay=POLL_SECONDS,
        queue_read_limit=QUEUE_READ_MAX,
        job_serializer=encode_job,
        job_deserializer=decode_job,
        log_results=False,
    )


async def _work_until(stop: asyncio.Event, worker: SurvivingWorker) -> None:
    working = asyncio.create_task(worker.async_run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    if not stop.is_set():
        stopping.cancel()
        await working  # it ended by itself: raise what it raised, and let the supervisor start this process anew
        raise RuntimeError("the worker ended by itself")
    await worker.drain(DRAIN_SECONDS)
    await asyncio.gather(working, return_exceptions=True)


async def _beat(database: Database, worker_id: UUID, queue: Queue, locks: dict[str, bool] | None) -> None:
    async with database.connect() as tx:
        await heartbeats.beat(tx, worker_id, queue, locks)


async def _leave(database: Database, worker_id: UUID) -> None:
    try:
        async with database.connect() as tx:
            await heartbeats.leave(tx, worker_id)
    except Unavailable:
        LOG.info("worker.left_silently", worker_id=worker_id)


async def main(settings: Settings, queue: Queue) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run_worker(settings, queue, stop)
