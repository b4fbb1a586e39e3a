"""Slow clients: what honest ones notice of 300 connections that mean harm, in alternating readings."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable

from bench.load import Outcome, request_bytes, run_load

HARMFUL = 300
HONEST = 8
SECONDS = 4.0
DROP_SECONDS = 1.0
"""How often each of them sends a byte, to seem alive."""

SETTLE_SECONDS = 1.0

QUIET, BESIDE = "alone", f"beside {HARMFUL}"

Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def measure_slow_clients(
    port: int, headers: dict[str, str], rounds: int, message: Callable[[], bytes]
) -> dict[str, object]:
    """Print and give the figures: appends by honest clients, alone and beside slow heads, slow bodies and idlers."""
    readings: dict[str, list[Outcome]] = {QUIET: [], BESIDE: []}
    for round_ in range(rounds):
        for name in (QUIET, BESIDE) if round_ % 2 == 0 else (BESIDE, QUIET):
            readings[name].append(asyncio.run(_read(port, headers, message, harmful=HARMFUL if name == BESIDE else 0)))
    figures: dict[str, object] = {}
    print(f"\n{HONEST} honest clients append, {rounds} rounds of {SECONDS:g} s")
    for name, outcomes in readings.items():
        figure = {
            "per_second": round(statistics.median(one.requests / one.seconds for one in outcomes)),
            "p50_ms": round(statistics.median(one.quantile_ms(0.5) for one in outcomes), 1),
            "p99_ms": round(statistics.median(one.quantile_ms(0.99) for one in outcomes), 1),
            "failures": sum(one.failures for one in outcomes),
        }
        figures[name] = figure
        print(f"{'  ' + name:26}{figure['per_second']:8.0f} per s   p50 {figure['p50_ms']:6.1f} ms", end="")
        print(f"   p99 {figure['p99_ms']:6.1f} ms   {figure['failures']} failed")
    ratio = statistics.median(
        slow.quantile_ms(0.99) / quiet.quantile_ms(0.99)
        for quiet, slow in zip(readings[QUIET], readings[BESIDE], strict=True)
    )
    figures["p99_ratio"] = round(ratio, 2)
    print(f"  the 99th percentile beside them is {ratio:.2f} times the one without")
    return figures


async def _read(port: int, headers: dict[str, str], message: Callable[[], bytes], *, harmful: int) -> Outcome:
    lines = [await asyncio.open_connection("127.0.0.1", port) for _ in range(harmful)]
    dripping = asyncio.gather(*(_drip(line, _harm(number, headers)) for number, line in enumerate(lines)))
    await asyncio.sleep(SETTLE_SECONDS)
    try:
        return await run_load(port, HONEST, SECONDS, message)
    finally:
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
        for _, writer in lines:
            writer.close()


def _harm(number: int, headers: dict[str, str]) -> bytes:
    """A head without an end, a body without an end, or nothing at all."""
    whole = request_bytes("POST", "/api/v1/sessions", {"agent_id": "x" * 100_000}, headers)
    return [b"GET / HTTP/1.1\r\nX: ", whole[:2000], b""][number % 3]


async def _drip(line: Line, first: bytes) -> None:
    """Send what it begins with, and then a byte now and then, until the server will have no more of it."""
    _, writer = line
    writer.write(first)
    while first and not writer.is_closing():
        await asyncio.sleep(DROP_SECONDS)
        writer.write(b"x")
