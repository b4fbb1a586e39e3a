"""The cache's scripts, given to a Redis as the product does it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import cast

from redis.asyncio import Redis

from service.copies.scripts import SCRIPTS


async def load_scripts(redis: Redis) -> None:
    for script in SCRIPTS:
        await cast("Awaitable[str]", redis.script_load(script.text))
