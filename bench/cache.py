"""What the cache costs writes and spares reads: two processes of Holdfast side by side, one with it and one without."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from pathlib import Path

from bench.load import run_load
from bench.processes import cpu_seconds, free_port, start, tree_cpu_seconds

CONNECTIONS = 32
SWITCHES = ("on", "off")


def measure_cache(
    folder: Path,
    environment: dict[str, str],
    operations: dict[str, Callable[[int], Callable[[], bytes]]],
    pids: tuple[int, int],
    rounds: int,
    seconds: float,
) -> dict[str, object]:
    """CPU milliseconds per request of the web process, PostgreSQL and Redis, with the cache and without.

    `operations` give requests for a port; `pids` are PostgreSQL's and Redis'.
    """
    ports = {switch: free_port() for switch in SWITCHES}
    processes = {
        switch: start(
            "service", port, environment | {"HOLDFAST_CACHE": switch}, "/health/ready", folder / f"cache-{switch}.log"
        )
        for switch, port in ports.items()
    }
    figures: dict[str, object] = {}
    print(f"\n{'cache':26}{'server':>16}{'PostgreSQL':>16}{'Redis':>16}{'CPU ms on / off':>18}{'ratio':>7}")
    try:
        for name, operation in operations.items():
            found: dict[str, list[list[float]]] = {switch: [] for switch in SWITCHES}
            for round_ in range(rounds + 1):  # the first one warms up
                for switch in SWITCHES if round_ % 2 else reversed(SWITCHES):
                    pid = processes[switch].pid
                    spent = [cpu_seconds(pid), tree_cpu_seconds(pids[0]), cpu_seconds(pids[1])]
                    outcome = asyncio.run(run_load(ports[switch], CONNECTIONS, seconds, operation(ports[switch])))
                    now = [cpu_seconds(pid), tree_cpu_seconds(pids[0]), cpu_seconds(pids[1])]
                    if round_:
                        per_request = 1000 / max(outcome.requests, 1)
                        found[switch].append([(b - a) * per_request for a, b in zip(spent, now, strict=True)])
            middle = {
                switch: [statistics.median(column) for column in zip(*readings, strict=True)]
                for switch, readings in found.items()
            }
            ratio = statistics.median(sum(a) / sum(b) for a, b in zip(found["on"], found["off"], strict=True))
            parts = "".join(f"{on:8.3f}/{off:7.3f}" for on, off in zip(middle["on"], middle["off"], strict=True))
            print(f"{name:26}{parts}{sum(middle['on']):10.3f}/{sum(middle['off']):7.3f}{ratio:7.2f}")
            figures[name] = {"cpu_ratio": round(ratio, 3), **middle}
    finally:
        for process in processes.values():
            process.terminate()
            process.wait()
    return figures
