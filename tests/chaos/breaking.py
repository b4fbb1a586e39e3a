"""Every way in which a part is broken, and how it is mended: each fault is a strike, a time, and a mending."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import asyncpg
import redis
from faults import Fault
from processes import processes_below
from stack import DEADLINE_SECONDS, Part, Stack

KILLED = 137
"""What a process says that ended at a fault point."""

STOPPED = {0, -signal.SIGTERM}
"""What a process says that stopped as it was asked to; uvicorn raises the signal again when it is done."""

CUT_BACKENDS = """
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
REDIS_SECONDS_MAX = 2.0
MEMORY_BYTES = {"full": 1, "roomy": 0}
"""With one byte every write is refused; nought is no limit."""


class Breaker:
    """Breaks and mends the parts of a stack; from the main thread only."""

    def __init__(self, stack: Stack, parts: Mapping[str, Part], cut_clients: Callable[[], None]) -> None:
        self._stack = stack
        self._cut_clients = cut_clients
        self._parts = parts
        self._stopped: dict[str, list[int]] = {}
        self.misbehaved: list[str] = []
        """Parts that ended by themselves, or did not stop properly when they were asked to."""

    def strike(self, fault: Fault) -> None:
        """Break it. Whatever is broken already, by a fault at the same time, stays so."""
        match fault.part, fault.way:
            case "clients", _:
                self._cut_clients()
            case "postgres", "connections cut":
                with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                    self._stack.ledger.runner.run(_cut_backends(self._stack.environment["DATABASE_URL"]))
            case "valkey", "connections cut" | "emptied" | "full" as way:
                self._tell_valkey(way)
            case part, "hang":
                self._pause(part)
            case part, "kill -9":
                self._kill(part)
            case "postgres", "restart":
                self._stack.servers.stop_postgres()
            case "valkey", "restart":
                self._stack.servers.stop_redis()
            case part, "restart":
                self._stop(self._parts[part])
            case part, _:
                self._arm(self._parts[part], fault.detail)

    def hold(self, fault: Fault) -> None:
        """Wait as long as it lasts; a fault point is over when it was reached."""
        until = time.monotonic() + fault.seconds
        part = self._parts.get(fault.part)
        while time.monotonic() < until:
            if fault.detail and part is not None and not part.running:
                return
            time.sleep(min(0.02, max(0.0, until - time.monotonic())))

    def mend(self, fault: Fault) -> bool:
        """Put it right; whether the fault was really met."""
        for pid in self._stopped.pop(fault.part, []):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        if fault.part in self._parts:
            return self._mend_part(self._parts[fault.part], fault)
        if fault.way == "full":
            self._tell_valkey("roomy")
        elif fault.way in {"kill -9", "restart"}:
            servers = self._stack.servers
            if fault.part == "postgres":
                servers.start_postgres()
            else:
                servers.start_redis()
        return True

    def _mend_part(self, part: Part, fault: Fault) -> bool:
        was_reached = not fault.detail or (not part.running and part.wait() == KILLED)
        if fault.detail and part.running:
            part.kill()
        elif not was_reached:
            self.misbehaved.append(f"{part.name} ended with {part.wait()} before it came to {fault.detail}")
        elif fault.way == "hang" and not part.running:
            self.misbehaved.append(f"{part.name} ended with {part.wait()} while it was only stopped for a while")
        if not part.running:
            part.start()
        return was_reached

    def close(self) -> None:
        """Let go on whatever hangs, or it could not be stopped."""
        for pids in self._stopped.values():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def _pause(self, name: str) -> None:
        root = self._pid(name)
        self._stopped[name] = [root, *processes_below(root)]
        for pid in self._stopped[name]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def _kill(self, name: str) -> None:
        if name in self._parts:
            self._parts[name].kill()
        else:
            os.kill(self._pid(name), signal.SIGKILL)

    def _pid(self, name: str) -> int:
        servers = self._stack.servers
        if name in self._parts:
            return self._parts[name].pid
        return servers.postgres_pid if name == "postgres" else servers.redis_pid

    def _arm(self, part: Part, point: str) -> None:
        """Start it anew such that it ends by itself when it passes a point for the n-th time."""
        self._stop(part)
        part.start(HOLDFAST_FAULT=point)

    def _stop(self, part: Part) -> None:
        """Ask it to stop: it must, in time, and say that all is well."""
        try:
            code: int | str = part.stop()
        except subprocess.TimeoutExpired:
            part.kill()
            code = f"nothing within {DEADLINE_SECONDS:.0f} s, and was killed"
        if code not in STOPPED:
            self.misbehaved.append(f"{part.name} was asked to stop and said {code}")

    def restart(self, part: Part) -> None:
        """Stop it and start it anew, when nothing else is broken."""
        self._stop(part)
        part.start()

    def find_fallen(self) -> None:
        """Note and start again what runs no more, though nobody broke it."""
        for name, part in self._parts.items():
            if not part.running:
                self.misbehaved.append(f"{name} ended by itself with {part.wait()}")
                part.start()

    def _tell_valkey(self, way: str) -> None:
        seconds = REDIS_SECONDS_MAX
        url = self._stack.environment["REDIS_URL"]
        with (
            suppress(redis.RedisError),
            redis.Redis.from_url(url, socket_timeout=seconds, socket_connect_timeout=seconds) as client,
        ):
            if way == "emptied":
                client.flushall()
            elif way in MEMORY_BYTES:
                client.config_set("maxmemory", MEMORY_BYTES[way])
            else:
                client.client_kill_filter(_type="normal", skipme=True)
                client.client_kill_filter(_type="pubsub", skipme=True)


async def _cut_backends(url: str) -> None:
    async with asyncio.timeout(REDIS_SECONDS_MAX):
        connection = await asyncpg.connect(url, timeout=REDIS_SECONDS_MAX)
        try:
            await connection.fetchval(CUT_BACKENDS)
        finally:
            await connection.close()
