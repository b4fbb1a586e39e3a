"""A Valkey of one test alone, for what no other test would survive."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

from eventually import until
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.embedded.binaries import find_valkey


class OwnRedis:
    """A Valkey that a test may stop, kill and start again. It comes back with whatever it had."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = f"unix://{folder}/own.sock"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        options = {
            "port": "0", "unixsocket": f"{self._folder}/own.sock", "dir": str(self._folder), "save": "",
            "appendonly": "yes", "appendfsync": "always",
        }  # fmt: skip
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([find_valkey().path, *arguments], stdout=subprocess.DEVNULL)  # noqa: ASYNC220 - it returns at once
        await until(self.answers)

    async def answers(self) -> bool:
        async with self.client() as client:
            with suppress(RedisError, OSError):
                return bool(await client.ping())
        return False

    def client(self) -> Redis:
        return Redis.from_url(self.url)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
