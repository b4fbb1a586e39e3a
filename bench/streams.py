"""Streams: what an open one costs, and how long after an append's answer those who watch are told."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from bench.load import request_bytes
from bench.processes import cpu_seconds, free_port, resident_mb, start

OPEN_STREAMS = 1000
"""Each of a session of its own: the dearest case, a channel for each."""

WARM_STREAMS = 50
"""Opened and closed before the memory is read: what the first ones load is not theirs."""

WATCHERS = 20
"""Of the hot session, at each of two web processes."""

APPENDS_PER_SECOND = 200
LATENCY_SECONDS = 5.0
WRITERS = 16
IDLE_SECONDS = 10.0
"""In which all streams do nothing, to read what that costs."""

OPENING_AT_ONCE = 50

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def measure_streams(
    folder: Path, environment: dict[str, str], port: int, pid: int, headers: dict[str, str]
) -> dict[str, object]:
    """Print and give the figures; starts a second web process, whose watchers are woken by Redis."""
    other_port = free_port()
    other = start("service", other_port, environment, "/health/ready", folder / "other.log")
    try:
        figures = asyncio.run(_measure([port, other_port], pid, headers))
    finally:
        other.terminate()
        other.wait()
    print(f"\n{OPEN_STREAMS} open streams: {figures['kib_each']} KiB each, ", end="")
    print(f"{figures['idle_cpu_percent']} % of a core while nothing happens")
    print(f"{APPENDS_PER_SECOND} appends a second to one session, beside them; from the answer to the event, in ms")
    for name in ("same process", "other process"):
        print(f"{'  ' + name:26}p50 {figures[name]['p50_ms']:6.1f}   p99 {figures[name]['p99_ms']:6.1f}")  # type: ignore[index]
    return figures


async def _measure(ports: list[int], pid: int, headers: dict[str, str]) -> dict[str, object]:
    sessions = await _open_sessions(ports[0], headers, OPEN_STREAMS + 1)
    hot = sessions.pop()
    for line in await _open_streams(ports[0], headers, sessions[:WARM_STREAMS]):
        line[1].close()
    await asyncio.sleep(1)
    before = resident_mb(pid)
    lines = await _open_streams(ports[0], headers, sessions)
    await asyncio.sleep(1)
    kib_each = (resident_mb(pid) - before) * 1e6 / 1024 / len(lines)
    cpu = cpu_seconds(pid)
    await asyncio.sleep(IDLE_SECONDS)
    idle = (cpu_seconds(pid) - cpu) / IDLE_SECONDS * 100
    answered: dict[int, float] = {}
    told: list[list[tuple[int, float]]] = [[], []]
    watcher = await _another_caller(ports[0], headers)
    watching = [
        asyncio.create_task(_watch(port, watcher, hot, received))
        for port, received in zip(ports, told, strict=True)
        for _ in range(WATCHERS)
    ]
    await asyncio.sleep(1)
    await _append(ports[0], headers, hot, answered)
    await asyncio.sleep(1)
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    for _, writer in lines:
        writer.close()
    figures: dict[str, object] = {"kib_each": round(kib_each, 1), "idle_cpu_percent": round(idle, 1)}
    for name, received in zip(("same process", "other process"), told, strict=True):
        if len(received) != len(answered) * WATCHERS:
            raise RuntimeError(f"{len(received)} events came instead of {len(answered) * WATCHERS}")
        late = sorted(max(0.0, at - answered[seq]) * 1000 for seq, at in received)
        figures[name] = {"p50_ms": late[len(late) // 2], "p99_ms": late[int(len(late) * 0.99)], "events": len(late)}
    return figures


async def _open_sessions(port: int, headers: dict[str, str], count: int) -> list[str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = {"agent_id": "bench", "activate": True, "config": {"max_messages": 1_000_000}}
    opened = []
    for _ in range(count):
        writer.write(request_bytes("POST", "/api/v1/sessions", body, headers))
        opened.append(str(json.loads(await _body(reader))["id"]))
    writer.close()
    return opened


async def _another_caller(port: int, headers: dict[str, str]) -> dict[str, str]:
    """One caller alone may not have so many streams."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes("POST", "/api/v1/api-keys", {"name": "watcher"}, headers))
    secret = json.loads(await _body(reader))["secret"]
    writer.close()
    return {"Authorization": f"Bearer {secret}"}


async def _body(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 2"):
        raise RuntimeError(head.decode())
    length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return await reader.readexactly(int(length.partition(b":")[2]))


async def _open_streams(port: int, headers: dict[str, str], sessions: list[str]) -> list[Line]:
    gate = asyncio.Semaphore(OPENING_AT_ONCE)

    async def open_one(session: str) -> Line:
        async with gate:
            return await _open_stream(port, headers, session)

    return await asyncio.gather(*(open_one(session) for session in sessions))


async def _open_stream(port: int, headers: dict[str, str], session: str) -> Line:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_bytes("GET", f"/api/v1/sessions/{session}/events/stream", None, headers))
    await reader.readuntil(b"retry:")
    return reader, writer


async def _watch(port: int, headers: dict[str, str], session: str, received: list[tuple[int, float]]) -> None:
    reader, writer = await _open_stream(port, headers, session)
    try:
        while True:
            block = await reader.readuntil(b"\n\n")
            _, is_event, data = block.partition(b"data: ")
            if is_event:
                received.append((json.loads(data)["data"]["message_seq"], time.perf_counter()))
    finally:
        writer.close()


async def _append(port: int, headers: dict[str, str], session: str, answered: dict[int, float]) -> None:
    """So many appends a second, whatever their answers take."""
    request = request_bytes("POST", f"/api/v1/sessions/{session}/messages", {"content": "Hello."}, headers)
    began = time.perf_counter()
    places = iter(range(int(APPENDS_PER_SECOND * LATENCY_SECONDS)))

    async def write() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for place in places:
            await asyncio.sleep(max(0.0, began + place / APPENDS_PER_SECOND - time.perf_counter()))
            writer.write(request)
            answer = await _body(reader)
            answered[json.loads(answer)["seq"]] = time.perf_counter()
        writer.close()

    await asyncio.gather(*(write() for _ in range(WRITERS)))
