"""A closed-loop load: so many connections, each sends its next request when its last one is answered."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field

READ_BYTES = 1 << 18


@dataclass
class Outcome:
    """What one run of load saw. Times in seconds."""

    requests: int = 0
    failures: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def quantile_ms(self, share: float) -> float:
        """The latency that `share` of the requests stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0


def request_bytes(method: str, path: str, body: object = None, headers: dict[str, str] | None = None) -> bytes:
    """One HTTP/1.1 request as it goes over the wire."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    if content:
        lines.append("Content-Type: application/json")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def run_load(port: int, connections: int, seconds: float, next_request: Callable[[], bytes]) -> Outcome:
    """Send what `next_request` gives over `connections` connections for `seconds`."""
    outcome = Outcome()
    started = time.perf_counter()
    deadline = started + seconds
    await asyncio.gather(*(_one_connection(port, deadline, next_request, outcome) for _ in range(connections)))
    outcome.seconds = time.perf_counter() - started
    return outcome


async def _one_connection(port: int, deadline: float, next_request: Callable[[], bytes], outcome: Outcome) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=READ_BYTES)
    try:
        while time.perf_counter() < deadline:
            began = time.perf_counter()
            writer.write(next_request())
            status = await read_answer(reader)
            outcome.latencies.append(time.perf_counter() - began)
            outcome.requests += 1
            outcome.failures += not status.startswith(b"HTTP/1.1 2")
    finally:
        writer.close()
        await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> bytes:
    """Read an answer to its end; its status line."""
    head = await reader.readuntil(b"\r\n\r\n")
    status, _, rest = head.partition(b"\r\n")
    for line in rest.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            await reader.readexactly(int(value))
    return status
