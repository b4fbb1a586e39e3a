"""A client of Redis for small questions of many requests: what is asked while an answer comes goes out together.

A question of its own costs a process a quarter of a millisecond of CPU, one more in a batch a tenth of that. All share
one connection and one deadline, so that a Redis in trouble is met once and not by each.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

ANSWER_SECONDS_MAX = 0.1
"""A Redis that takes longer is in trouble, and whoever asked does without."""

LOOKS = 20
"""How often an answer is looked for in that time: more turns of the event loop than a new connection takes."""

Question = tuple[tuple[Any, ...], asyncio.Future[Any]]


class PipelinedRedis(Redis):
    """Sends commands in batches, one after the other, and waits for none longer than it should."""

    def __init__(self, pool: ConnectionPool) -> None:
        super().__init__(connection_pool=pool)
        self._waiting: list[Question] = []
        self._sending: asyncio.Task[None] | None = None

    async def execute_command(self, *args: Any, **_: Any) -> Any:
        """Ask, together with whoever else does.

        Raises:
            TimeoutError: Redis took too long.
            RedisError, OSError: it is away, or refuses.
        """
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((args, answer))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_while_somebody_waits(), name="redis-pipeline")
        return await answer

    async def stop(self) -> None:
        """Ask no more."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending], timeout=ANSWER_SECONDS_MAX)
        await self.connection_pool.disconnect()

    async def _send_while_somebody_waits(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                try:
                    answers = await self._in_time(batch)
                except (RedisError, OSError, TimeoutError) as error:
                    # Whoever came meanwhile would only meet the same trouble.
                    batch, self._waiting = batch + self._waiting, []
                    answers = [error] * len(batch)
                for (_, answer), answered in zip(batch, answers, strict=True):
                    if answer.done():  # whoever asked has gone
                        continue
                    if isinstance(answered, Exception):
                        answer.set_exception(answered)
                    else:
                        answer.set_result(answered)
        finally:
            self._sending = None

    async def _in_time(self, batch: list[Question]) -> list[Any]:
        """What Redis answers to each, unless it takes too long.

        Looked for again and again, and not timed out in one go: where this process is so busy that the answer waits
        for us, each look takes longer, and a hundred requests at once are not taken for a Redis that is slow.
        """
        asking = asyncio.create_task(self._ask(batch))
        try:
            for _ in range(LOOKS):
                await asyncio.wait([asking], timeout=ANSWER_SECONDS_MAX / LOOKS)
                if asking.done():
                    return asking.result()
        finally:
            asking.cancel()
        raise TimeoutError

    async def _ask(self, batch: list[Question]) -> list[Any]:
        async with self.pipeline(transaction=False) as pipe:
            for command, _ in batch:
                pipe.execute_command(*command)
            answers: list[Any] = await pipe.execute(raise_on_error=False)
            return answers
