"""Webhooks: from the commit of an event to the first attempt, beside endpoints that hang too; what a delivery costs.

The receiver stands in this process: its clock is read when the request has come, PostgreSQL's time of the event is in
the body, and both are of one machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from subprocess import Popen
from uuid import uuid4

import httpx2
import msgspec
import uvloop

from bench.load import read_answer, request_bytes
from bench.processes import cpu_seconds, resident_mb, start_worker, tree_cpu_seconds
from bench.receivers import HANGING_SECONDS, HARM, HostileReceivers, Receiver
from service.commands.api_keys import KeyWish, create_api_key
from service.domain.caller import Scope
from service.domain.work import Queue
from service.store.engine import Database

EVENTS_PER_SECOND = 100
SECONDS = 20.0
WARM_UP_SECONDS = 3.0
"""Left out: first connections, first statements."""

RAW_POSTS = 500
SESSIONS = 50
LATE_SECONDS_MAX = 60.0
CONNECTIONS = 8
WANTED = {"event_types": ["message.created"]}

BACKLOG = 3000
"""Deliveries that wait when a worker starts, to see how fast it is and what one costs."""

READ_SHARE = 0.95
"""Of a backlog; its last ones come one after the other."""

POLL_SECONDS = 0.02


class Tenant(msgspec.Struct):
    """Its sessions and its key."""

    headers: dict[str, str]
    sessions: list[str] = []
    endpoints: int = 0


def measure_webhooks(folder: Path, environment: dict[str, str], port: int, postgres_pid: int) -> dict[str, object]:
    """Print and give the figures; starts the workers."""
    workers = {queue: start_worker(queue, environment, folder) for queue in (Queue.EVENTS, Queue.WEBHOOKS)}
    bench = Bench(folder, environment, port, postgres_pid, workers)
    try:
        return uvloop.run(bench.measure())
    finally:
        for worker in workers.values():
            worker.terminate()
            worker.wait()


class Bench:
    """The service that is measured, and tenants of it."""

    def __init__(
        self,
        folder: Path,
        environment: dict[str, str],
        port: int,
        postgres_pid: int,
        workers: dict[Queue, Popen[bytes]],
    ) -> None:
        self._folder = folder
        self._environment = environment
        self._port = port
        self._postgres_pid = postgres_pid
        self._workers = workers

    async def measure(self) -> dict[str, object]:
        figures: dict[str, object] = {}
        print(f"\n{'webhooks, ms':58}{'p50':>8}{'p99':>8}{'max':>8}{'count':>8}")
        async with Receiver() as receiver:
            figures["raw POST"] = _shown("raw POST, a connection each", await _raw(receiver.closing_url))
            for name, url in (("", receiver.url), (", connections closed", receiver.closing_url)):
                name = f"commit to first attempt, {EVENTS_PER_SECOND} events/s{name}"  # noqa: PLW2901
                tenant = await self._tenant([url])
                figures[name] = _shown(name, await self._paced(receiver, [tenant], EVENTS_PER_SECOND))
                await self._end(tenant)
            for name, hanging in (
                ("100 good endpoints beside one that hangs", ([1, 49], [0, 50], [0, 1])),
                ("40 good endpoints beside 60 that hang", ([30, 20], [30, 20])),
            ):
                tenants = [
                    await self._tenant([receiver.hanging_url] * bad + [receiver.url] * good) for bad, good in hanging
                ]
                for tenant, (_, good) in zip(tenants, hanging, strict=True):
                    tenant.endpoints = good
                figures[name] = _shown(f"{name}, 2 events/s each", await self._paced(receiver, tenants, 2))
                for tenant in tenants:
                    await self._end(tenant)
            print(f"\n{'a backlog of webhooks':58}{'per s':>8}{'worker':>8}{'PG':>8}{'CPU ms':>8}")
            for endpoints in (1, 20):
                figures[f"backlog, {endpoints}"] = await self._drained(receiver, endpoints)
        figures["hostile receivers"] = await self._harmed()
        return figures

    async def _tenant(self, urls: list[str]) -> Tenant:
        """A new one, with sessions, and endpoints to these."""
        database = Database(self._environment["DATABASE_URL"], connections_max=1)
        await database.open()
        async with database.begin() as tx:
            wish = KeyWish(tenant_id=uuid4().hex, name="bench", user_id=None, scopes=[Scope.ADMIN], lifetime=None)
            _, secret = await create_api_key(tx, wish)
        await database.close()
        tenant = Tenant({"Authorization": f"Bearer {secret}"}, endpoints=len(urls))
        for _ in range(SESSIONS):
            session = await self._ask(tenant, "POST", "/sessions", {"agent_id": "bench", "activate": True})
            tenant.sessions.append(str(session["id"]))
        for url in urls:
            await self._ask(tenant, "POST", "/webhooks", {"url": url} | WANTED)
        return tenant

    async def _end(self, tenant: Tenant) -> None:
        """Take the endpoints away, so that what hangs is over before the next reading."""
        listed = await self._ask(tenant, "GET", "/webhooks?limit=100")
        for webhook in listed["data"]:
            await self._ask(tenant, "DELETE", f"/webhooks/{webhook['id']}")

    async def _ask(
        self, tenant: Tenant, method: str, path: str, body: object = None
    ) -> dict[str, list[dict[str, str]]]:
        return await asyncio.to_thread(
            _ask, method, f"http://127.0.0.1:{self._port}/api/v1{path}", body, tenant.headers
        )

    def _appends(self, tenant: Tenant) -> list[bytes]:
        return [
            request_bytes("POST", f"/api/v1/sessions/{session}/messages", {"content": "x"}, tenant.headers)
            for session in tenant.sessions
        ]

    async def _paced(self, receiver: Receiver, tenants: Sequence[Tenant], per_second: float) -> list[float]:
        """Append at an even pace, whatever the answers take; the lags of all that arrived after the warm-up."""
        count, warm = int(SECONDS * per_second), int(WARM_UP_SECONDS * per_second)
        endpoints = sum(tenant.endpoints for tenant in tenants)
        receiver.clear()
        requests = [self._appends(tenant) for tenant in tenants]
        waiting: asyncio.Queue[bytes] = asyncio.Queue()
        sending = [asyncio.create_task(_send_all(self._port, waiting)) for _ in range(CONNECTIONS)]
        began = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            for appends in requests:
                waiting.put_nowait(appends[number % SESSIONS])
        await waiting.join()
        await _cancel(sending)
        async with asyncio.timeout(LATE_SECONDS_MAX):
            await receiver.until(count * endpoints)
        return receiver.lags_ms[warm * endpoints :]

    async def _drained(self, receiver: Receiver, endpoints: int) -> dict[str, float]:
        """How fast a worker works off what waits, and what CPU each delivery takes."""
        self._stop_worker()
        tenant = await self._tenant([receiver.url] * endpoints)
        receiver.clear()
        waiting: asyncio.Queue[bytes] = asyncio.Queue()
        appends = self._appends(tenant)
        for number in range(BACKLOG // endpoints):
            waiting.put_nowait(appends[number % SESSIONS])
        sending = [asyncio.create_task(_send_all(self._port, waiting)) for _ in range(CONNECTIONS)]
        await waiting.join()
        await _cancel(sending)
        await asyncio.sleep(1)  # the relay makes the deliveries of the last ones
        worker = await asyncio.to_thread(self._start_worker)
        await receiver.until(1)
        began, first, used = time.perf_counter(), receiver.count, self._used(worker.pid)
        await receiver.until(int(BACKLOG * READ_SHARE))
        count, after = receiver.count - first, self._used(worker.pid)
        per_second = count / (time.perf_counter() - began)
        worker_ms, postgres_ms = ((late - early) / count * 1000 for early, late in zip(used, after, strict=True))
        name = f"{endpoints} endpoint{'s' if endpoints > 1 else ''}"
        print(f"{name:58}{per_second:8.0f}{worker_ms:8.2f}{postgres_ms:8.2f}{worker_ms + postgres_ms:8.2f}")
        await receiver.until(BACKLOG)
        await self._end(tenant)
        return {"per_s": round(per_second), "worker_ms": round(worker_ms, 2), "postgres_ms": round(postgres_ms, 2)}

    async def _harmed(self) -> dict[str, float]:
        """What a worker's memory grows by while it is answered by receivers that mean harm."""
        worker = self._workers[Queue.WEBHOOKS]
        async with HostileReceivers() as urls:
            tenant = await self._tenant([url for url in urls.values() for _ in range(5)])
            before = peak = resident_mb(worker.pid)
            for append in self._appends(tenant)[:25]:
                await _send(self._port, append)
            ending = time.monotonic() + HANGING_SECONDS
            while time.monotonic() < ending:
                await asyncio.sleep(POLL_SECONDS)
                peak = max(peak, resident_mb(worker.pid))
            await self._end(tenant)
        print(f"\nmemory of the worker beside {len(urls) * 5} receivers that mean harm ({', '.join(HARM)}):")
        print(f"{before:.1f} MB before, {peak:.1f} MB at the most")
        return {"before_mb": round(before, 1), "peak_mb": round(peak, 1)}

    def _stop_worker(self) -> None:
        worker = self._workers[Queue.WEBHOOKS]
        worker.terminate()
        worker.wait()

    def _start_worker(self) -> Popen[bytes]:
        self._workers[Queue.WEBHOOKS] = start_worker(Queue.WEBHOOKS, self._environment, self._folder)
        return self._workers[Queue.WEBHOOKS]

    def _used(self, pid: int) -> tuple[float, float]:
        return cpu_seconds(pid), tree_cpu_seconds(self._postgres_pid)


def _shown(name: str, readings_ms: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(readings_ms, n=100)
    figures = {"p50_ms": round(cut[49], 1), "p99_ms": round(cut[98], 1), "max_ms": round(max(readings_ms), 1)}
    print(f"{name:58}{cut[49]:8.1f}{cut[98]:8.1f}{max(readings_ms):8.1f}{len(readings_ms):8}")
    return figures


async def _raw(url: str) -> list[float]:
    readings = []
    limits = httpx2.Limits(max_keepalive_connections=0)
    async with httpx2.AsyncClient(trust_env=False, limits=limits) as client:
        for _ in range(RAW_POSTS):
            began = time.perf_counter()
            await client.post(url, content=b"raw")
            readings.append((time.perf_counter() - began) * 1000)
    return readings


async def _send_all(port: int, waiting: asyncio.Queue[bytes]) -> None:
    """Send whatever waits over one connection; cheaply, because this machine is the measured one, too."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while True:
            writer.write(await waiting.get())
            status = await read_answer(reader)
            waiting.task_done()
            if not status.startswith(b"HTTP/1.1 201"):
                print(f"an append was answered with {status!r}")
    finally:
        writer.close()


async def _send(port: int, request: bytes) -> None:
    waiting: asyncio.Queue[bytes] = asyncio.Queue()
    waiting.put_nowait(request)
    sending = asyncio.create_task(_send_all(port, waiting))
    await waiting.join()
    await _cancel([sending])


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _ask(method: str, url: str, body: object, headers: dict[str, str]) -> dict[str, list[dict[str, str]]]:
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, content, headers | {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request) as answer:
        found: dict[str, list[dict[str, str]]] = json.loads(answer.read() or b"{}")
        return found
