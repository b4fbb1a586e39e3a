"""Measures Holdfast beside bare endpoints, in alternating rounds on the same PostgreSQL: `make bench`.

CPU milliseconds per request (server process + PostgreSQL) are the figure to compare: a neighbour on the machine changes
requests per second, hardly the CPU that a request needs. A ratio below 1.25 is no finding.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import statistics
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.cache import measure_cache
from bench.load import Outcome, request_bytes, run_load
from bench.processes import cpu_seconds, free_port, resident_mb, start, tree_cpu_seconds
from bench.slow_clients import measure_slow_clients
from bench.streams import measure_streams
from bench.uploads import compare_uploads
from bench.webhooks import measure_webhooks
from service import development_key
from service.embedded.servers import EmbeddedServers
from service.running import keep_secret
from service.store import migrate

CONNECTIONS = 32
SESSIONS = 200
"""Enough that no two of 32 writers often meet on one row."""

TEXT = "The quick brown fox jumps over the lazy dog. " * 7
"""315 characters: a chat message of ordinary length."""

HISTORY_MESSAGES = 200
UPLOADS = "uploads"
STREAMS = "streams"
WEBHOOKS = "webhooks"
CACHE = "cache"
CACHED = ("append", "get session", "history, last 50")
SLOW_CLIENTS = "slow-clients"


class Side(msgspec.Struct):
    """One of the two servers that are compared."""

    name: str
    port: int
    pid: int
    prefix: str
    headers: dict[str, str]
    session_ids: list[str] = []


class Reading(msgspec.Struct):
    """One round of one operation on one side."""

    per_second: float
    server_ms: float
    postgres_ms: float
    p50_ms: float
    p99_ms: float
    failures: int

    @property
    def total_ms(self) -> float:
        return self.server_ms + self.postgres_ms


Operation = Callable[[Side], Callable[[], bytes]]


def append(side: Side) -> Callable[[], bytes]:
    requests = [
        request_bytes("POST", f"{side.prefix}/sessions/{id_}/messages", {"content": TEXT}, side.headers)
        for id_ in side.session_ids
    ]
    return itertools.cycle(requests).__next__


def append_to_one(side: Side) -> Callable[[], bytes]:
    path = f"{side.prefix}/sessions/{side.session_ids[0]}/messages"
    request = request_bytes("POST", path, {"content": TEXT}, side.headers)
    return lambda: request


def read(side: Side) -> Callable[[], bytes]:
    requests = [request_bytes("GET", f"{side.prefix}/sessions/{id_}", None, side.headers) for id_ in side.session_ids]
    return itertools.cycle(requests).__next__


def history(side: Side) -> Callable[[], bytes]:
    request = request_bytes("GET", f"{side.prefix}/sessions/{side.session_ids[-1]}/messages", None, side.headers)
    return lambda: request


def create(side: Side) -> Callable[[], bytes]:
    request = request_bytes("POST", f"{side.prefix}/sessions", {"agent_id": "bench", "title": "T"}, side.headers)
    return lambda: request


def listing(side: Side) -> Callable[[], bytes]:
    query = "?limit=20" if side.prefix else ""
    request = request_bytes("GET", f"{side.prefix}/sessions{query}", None, side.headers)
    return lambda: request


OPERATIONS: dict[str, Operation] = {
    "append": append,
    "append, one hot session": append_to_one,
    "get session": read,
    "history, last 50": history,
    "create session": create,
    "list 20 sessions": listing,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one reading (3)")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (5)")
    parser.add_argument(
        "--only",
        choices=[*OPERATIONS, UPLOADS, STREAMS, WEBHOOKS, CACHE, SLOW_CLIENTS],
        help="measure this operation alone",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="holdfast-bench-"))
    try:
        with EmbeddedServers(folder, say=print) as servers:
            figures = _measure(servers, folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


def _measure(servers: EmbeddedServers, folder: Path, options: argparse.Namespace) -> dict[str, object]:
    database_url, redis_url = servers.endpoints.database_url or "", servers.endpoints.redis_url or ""
    migrate.upgrade(database_url)
    key = development_key.ensure(database_url, folder)
    environment = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "HOLDFAST_DATA_DIR": str(folder)}
    environment |= {"HOLDFAST_SECRET": keep_secret(folder), "HOLDFAST_WEBHOOK_ALLOW_PRIVATE": "true"}
    # One tenant at one address asks for all that is measured.
    environment |= {"HOLDFAST_TENANT_STREAMS": "2000", "HOLDFAST_ADDRESS_CONNECTIONS": "4000"}
    environment["HOLDFAST_WEBHOOK_HOST_ATTEMPTS"] = "1000"  # its receivers stand for as many hosts
    ports = [free_port(), free_port()]
    product = start("service", ports[0], environment, "/health/ready", folder / "holdfast.log")
    bare = start("bench.yardstick", ports[1], environment, "/sessions", folder / "bare.log")
    processes = [product, bare]
    try:
        sides = [
            Side("holdfast", ports[0], product.pid, "/api/v1", {"Authorization": f"Bearer {key}"}),
            Side("bare", ports[1], bare.pid, "", {}),
        ]
        for side in sides:
            _fill(side)
        names = [name for name in OPERATIONS if options.only in {None, name}]
        print(f"\n{CONNECTIONS} connections, {options.rounds} rounds of {options.seconds:g} s, one process each")
        print(f"{'':26}{'per s':>8}{'p50 ms':>9}{'p99 ms':>9}{'server ms':>11}{'PG ms':>8}{'CPU ms':>8}{'ratio':>7}")
        figures: dict[str, object] = {}
        for name in names:
            figures[name] = _compare(name, sides, servers.postgres_pid, options)
        memory = {side.name: round(resident_mb(side.pid), 1) for side in sides}
        print(f"memory after the run: Holdfast {memory['holdfast']} MB, bare {memory['bare']} MB")
        figures["memory_mb"] = memory
        if options.only in {None, CACHE}:
            figures[CACHE] = _measure_cache(servers, folder, environment, sides[0], options)
        if options.only in {None, UPLOADS}:
            figures[UPLOADS] = compare_uploads(folder, ports[0], product.pid, sides[0].headers, options.rounds)
        if options.only in {None, STREAMS}:
            figures[STREAMS] = measure_streams(folder, environment, ports[0], product.pid, sides[0].headers)
        if options.only in {None, SLOW_CLIENTS}:
            message = OPERATIONS["append"](sides[0])
            figures[SLOW_CLIENTS] = measure_slow_clients(ports[0], sides[0].headers, options.rounds, message)
        if options.only in {None, WEBHOOKS}:
            figures[WEBHOOKS] = measure_webhooks(folder, environment, ports[0], servers.postgres_pid)
    finally:
        for process in processes:
            process.terminate()
            process.wait()
    return figures


def _measure_cache(
    servers: EmbeddedServers, folder: Path, environment: dict[str, str], side: Side, options: argparse.Namespace
) -> dict[str, object]:
    def at(name: str) -> Callable[[int], Callable[[], bytes]]:
        return lambda port: OPERATIONS[name](msgspec.structs.replace(side, port=port))

    pids = (servers.postgres_pid, servers.redis_pid)
    return measure_cache(
        folder, environment, {name: at(name) for name in CACHED}, pids, options.rounds, options.seconds
    )


def _fill(side: Side) -> None:
    for _ in range(SESSIONS):
        side.session_ids.append(_post(side, "/sessions", {"agent_id": "bench"} | _activation(side))["id"])
    for _ in range(HISTORY_MESSAGES):
        _post(side, f"/sessions/{side.session_ids[-1]}/messages", {"content": TEXT})


def _activation(side: Side) -> dict[str, object]:
    return {"activate": True, "config": {"max_messages": 1_000_000}} if side.prefix else {}


def _post(side: Side, path: str, body: object) -> dict[str, str]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{side.port}{side.prefix}{path}",
        json.dumps(body).encode(),
        side.headers | {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        decoded: dict[str, str] = json.load(answer)
        return decoded


def _compare(name: str, sides: list[Side], postgres_pid: int, options: argparse.Namespace) -> dict[str, object]:
    readings: dict[str, list[Reading]] = {side.name: [] for side in sides}
    for side in sides:
        asyncio.run(run_load(side.port, CONNECTIONS, 0.5, OPERATIONS[name](side)))  # warm caches and statements
    for round_ in range(options.rounds):
        for side in sides if round_ % 2 == 0 else reversed(sides):
            readings[side.name].append(_read_once(side, OPERATIONS[name], postgres_pid, options.seconds))
    middle = {side: _median(found) for side, found in readings.items()}
    ratio = statistics.median(
        ours.total_ms / theirs.total_ms for ours, theirs in zip(readings["holdfast"], readings["bare"], strict=True)
    )
    for side, reading in middle.items():
        shown = f"{ratio:7.2f}" if side == "holdfast" else ""
        print(
            f"{name if side == 'holdfast' else '  bare':26}{reading.per_second:8.0f}{reading.p50_ms:9.1f}"
            f"{reading.p99_ms:9.1f}{reading.server_ms:11.3f}{reading.postgres_ms:8.3f}{reading.total_ms:8.3f}{shown}"
            + (f"   {reading.failures} FAILED" if reading.failures else "")
        )
    return {"cpu_ratio": round(ratio, 3)} | {side: msgspec.to_builtins(reading) for side, reading in middle.items()}


def _read_once(side: Side, operation: Operation, postgres_pid: int, seconds: float) -> Reading:
    server, postgres = cpu_seconds(side.pid), tree_cpu_seconds(postgres_pid)
    outcome: Outcome = asyncio.run(run_load(side.port, CONNECTIONS, seconds, operation(side)))
    per_request = 1000 / max(outcome.requests, 1)
    return Reading(
        per_second=outcome.requests / outcome.seconds,
        server_ms=(cpu_seconds(side.pid) - server) * per_request,
        postgres_ms=(tree_cpu_seconds(postgres_pid) - postgres) * per_request,
        p50_ms=outcome.quantile_ms(0.5),
        p99_ms=outcome.quantile_ms(0.99),
        failures=outcome.failures,
    )


def _median(readings: list[Reading]) -> Reading:
    fields = Reading.__struct_fields__
    return Reading(*(statistics.median(getattr(reading, name) for reading in readings) for name in fields[:-1]),
                   failures=sum(reading.failures for reading in readings))  # fmt: skip


if __name__ == "__main__":
    main()
