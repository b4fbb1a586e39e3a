"""From the commit of an event to the first attempt to deliver it, at 100 events a second, beside the raw POST.

The receiver stands in this process: its clock is read when the request's head has come, PostgreSQL's time of the event
is in the body, and both are of one machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
import urllib.request
from contextlib import suppress
from datetime import datetime
from typing import Self

import httpx2
import uvloop

from bench.load import read_answer, request_bytes

EVENTS_PER_SECOND = 100
SECONDS = 20.0
WARM_UP_SECONDS = 3.0
"""Left out: first connections, first statements."""

RAW_POSTS = 500
SESSIONS = 50
LATE_SECONDS_MAX = 15.0
OK = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
CONNECTIONS = 8
GOOD_ENDPOINTS = 49
"""Beside one that hangs; with it, as many as a tenant may have."""


class Receiver:
    """Notes when what came."""

    def __init__(self) -> None:
        self.lags_ms: list[float] = []
        self._came = asyncio.Event()

    async def until(self, count: int) -> None:
        """Wait for so many deliveries."""
        while len(self.lags_ms) < count:
            self._came.clear()
            await self._came.wait()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=1000)
        self._hanging = await asyncio.start_server(self._hang, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"
        self.hanging_url = f"http://127.0.0.1:{self._hanging.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._hanging.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        came = time.time()
        (length,) = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
        body = await reader.readexactly(int(length))
        if body != b"raw":
            told = datetime.fromisoformat(json.loads(body)["occurred_at"])
            self.lags_ms.append((came - told.timestamp()) * 1000)
            self._came.set()
        writer.write(OK)
        await writer.drain()
        writer.close()

    async def _hang(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(LATE_SECONDS_MAX + 1)
        writer.close()


def measure_webhooks(port: int, headers: dict[str, str]) -> dict[str, object]:
    """Print and give the figures."""
    return uvloop.run(_measure(port, headers))


async def _measure(port: int, headers: dict[str, str]) -> dict[str, object]:
    api = f"http://127.0.0.1:{port}/api/v1"
    sessions = [
        await asyncio.to_thread(_post, f"{api}/sessions", {"agent_id": "bench", "activate": True}, headers)
        for _ in range(SESSIONS)
    ]
    paths = [f"{api}/sessions/{session['id']}/messages" for session in sessions]
    figures: dict[str, object] = {}
    print(f"\n{'webhooks, ms':44}{'p50':>8}{'p99':>8}{'max':>8}{'count':>9}")
    async with Receiver() as receiver:
        figures["raw POST"] = _shown("raw POST, a connection each", await _raw(receiver.url))
        wanted = {"event_types": ["message.created"]}
        await asyncio.to_thread(_post, f"{api}/webhooks", {"url": receiver.url} | wanted, headers)
        figures["commit to first attempt"] = _shown(
            f"commit to first attempt, {EVENTS_PER_SECOND} events/s", await _paced(receiver, paths, headers, 1)
        )
        await asyncio.to_thread(_post, f"{api}/webhooks", {"url": receiver.hanging_url} | wanted, headers)
        for _ in range(GOOD_ENDPOINTS - 1):
            await asyncio.to_thread(_post, f"{api}/webhooks", {"url": receiver.url} | wanted, headers)
        figures["beside one that hangs"] = _shown(
            f"{GOOD_ENDPOINTS} good endpoints beside one that hangs, 2 events/s",
            await _paced(receiver, paths, headers, GOOD_ENDPOINTS, per_second=2),
        )
    return figures


def _shown(name: str, readings_ms: list[float]) -> dict[str, float]:
    cut = statistics.quantiles(readings_ms, n=100)
    figures = {"p50_ms": round(cut[49], 1), "p99_ms": round(cut[98], 1), "max_ms": round(max(readings_ms), 1)}
    print(f"{name:44}{cut[49]:8.1f}{cut[98]:8.1f}{max(readings_ms):8.1f}{len(readings_ms):9}")
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


async def _paced(
    receiver: Receiver, paths: list[str], headers: dict[str, str], endpoints: int, per_second: float = EVENTS_PER_SECOND
) -> list[float]:
    """Append at an even pace, whatever the answers take; the lags of all that arrived after the warm-up."""
    count, warm = int(SECONDS * per_second), int(WARM_UP_SECONDS * per_second)
    receiver.lags_ms.clear()
    host = paths[0].removeprefix("http://").partition("/")[0]
    port = int(host.rpartition(":")[2])
    requests = [request_bytes("POST", path.removeprefix(f"http://{host}"), {"content": "x"}, headers) for path in paths]
    waiting: asyncio.Queue[bytes] = asyncio.Queue()
    sending = [asyncio.create_task(_send_all(port, waiting)) for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
        waiting.put_nowait(requests[number % len(requests)])
    await waiting.join()
    for task in sending:
        task.cancel()
    await asyncio.gather(*sending, return_exceptions=True)
    async with asyncio.timeout(LATE_SECONDS_MAX):
        await receiver.until(count * endpoints)
    return receiver.lags_ms[warm * endpoints :]


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


def _post(url: str, body: object, headers: dict[str, str]) -> dict[str, str]:
    request = urllib.request.Request(url, json.dumps(body).encode(), headers | {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        found: dict[str, str] = json.load(answer)
        return found
