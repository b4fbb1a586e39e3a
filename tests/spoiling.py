"""What `TEST_CACHE` does to the copies in Redis while all other tests run."""

from __future__ import annotations

import os
import random
import secrets
import threading
from collections.abc import Callable
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from service.copies.names import GENERATION, SCHEMA, session_of
from service.copies.scripts import GENERATION_BYTES, MARK

TEST_CACHE = os.environ.get("TEST_CACHE", "")
"""How the cache fares in all tests but its own: `off`, `cold`, `poisoned`; well, without."""

COLD_SECONDS = 0.005
SPOILING_SECONDS = 0.002
KEYS = 200

DICE = random.SystemRandom()
"""Shares no state with the chance of the tests that run meanwhile."""


def forget(redis: Redis) -> None:
    """Let no copy live for long."""
    redis.delete(GENERATION)


def spoil(redis: Redis) -> None:
    """Leave something else where copies are: garbage, other types, other numbers, other sessions' copies."""
    _, keys = redis.scan(DICE.randrange(1 << 16), match=SCHEMA + b"{*", count=KEYS)
    found = [key for key in keys if session_of(key) is not None]
    pipeline = redis.pipeline(transaction=False)
    for key in found:
        number = b"%016d" % DICE.randrange(60)
        ways: list[Callable[[], Any]] = [
            lambda key=key: pipeline.set(key, secrets.token_bytes(200), ex=5),
            lambda key=key: pipeline.setrange(key, DICE.randrange(300), b"xx"),
            lambda key=key, number=number: pipeline.setrange(key, len(MARK) + GENERATION_BYTES, number),
            lambda key=key: pipeline.append(key, b"[]"),
            lambda key=key: pipeline.copy(DICE.choice(found), key, replace=True),
            lambda key=key, number=number: pipeline.set(
                key, MARK + (redis.get(GENERATION) or b"") + number + b"0000{}", ex=5
            ),
            lambda key=key: pipeline.delete(key).hset(key, "v", "1").expire(key, 5),
        ]
        DICE.choice(ways)()
    pipeline.execute(raise_on_error=False)


class Spoiler:
    """Does it again and again, in a thread."""

    def __init__(self, redis_url: str, way: Callable[[Redis], None], seconds: float) -> None:
        self._redis = Redis.from_url(redis_url)
        self._way = way
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self._way(self._redis)
            except RedisError:
                continue


WAYS = {"cold": (forget, COLD_SECONDS), "poisoned": (spoil, SPOILING_SECONDS)}
