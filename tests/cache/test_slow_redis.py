"""A Redis that answers late, or not at all, and a process that was stopped meanwhile: what is taken for proven."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from eventually import DEADLINE_SECONDS, until
from loading import load_scripts
from redis.asyncio import ConnectionPool

from service.copies import settling
from service.copies.awake import TICK_SECONDS, AwakeClock
from service.copies.link import Link, Trouble
from service.copies.names import GENERATION, session_name
from service.copies.pulse import OVER_SECONDS, Pulse
from service.copies.scripts import BEAT
from service.copies.settling import CALL_SECONDS_MAX, Change, Settler
from service.queue import open_pool

PIECE_BYTES = 64 * 1024

Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def redis_like(answer: Answering) -> AsyncIterator[ConnectionPool]:
    """Connections to something that stands where Redis should be."""
    answering: set[asyncio.Task[None]] = set()

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.create_task(answer(reader, writer)))

    with TemporaryDirectory(prefix="holdfast-slow-") as folder:
        socket = Path(folder) / "slow.sock"
        server = await asyncio.start_unix_server(connected, socket)
        try:
            yield open_pool(f"unix://{socket}", None)
        finally:
            server.close()
            for task in answering:
                task.cancel()
            await asyncio.gather(*answering, return_exceptions=True)


def late(redis_url: str, seconds: float) -> Answering:
    """The real Redis, whose every answer comes so late."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, after_seconds: float) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(PIECE_BYTES):
                await asyncio.sleep(after_seconds)
                writer.write(piece)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        url = urlsplit(redis_url)
        opening = (
            asyncio.open_unix_connection(url.path)
            if url.scheme == "unix"
            else asyncio.open_connection(url.hostname, url.port)
        )
        redis_reader, redis_writer = await opening
        forth = asyncio.create_task(carry(reader, redis_writer, 0))
        try:
            await carry(redis_reader, writer, seconds)
        finally:
            forth.cancel()
            redis_writer.close()
            writer.close()

    return relay


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hears everything and says nothing."""
    try:
        while await reader.read(PIECE_BYTES):
            pass
    finally:
        writer.close()


@pytest.mark.parametrize("seconds", [0.06, 0.15])
async def test_a_slow_redis_confirms_every_change(redis_url, redis, monkeypatch, seconds):
    """Whether an answer needs less than a tenth of a second or more, and however long a connection takes."""
    monkeypatch.setattr(settling, "UNCONFIRMED_SECONDS_MAX", DEADLINE_SECONDS)
    async with redis_like(late(redis_url, seconds)) as pool:
        pulse = Pulse(Link(pool, DEADLINE_SECONDS))
        settler = Settler(Link(pool, CALL_SECONDS_MAX), pulse)
        pulse.start()
        name = session_name(uuid4().hex, uuid4())
        confirmed = [await settler.settle(Change(name, seq)) for seq in range(8)]
        await settler.stop()
        await pulse.stop()

    assert confirmed == [True] * 8


async def test_a_connection_that_comes_about_too_late_for_one_call_is_there_for_the_next(redis_url, redis):
    await load_scripts(redis)
    async with redis_like(late(redis_url, CALL_SECONDS_MAX / 2)) as pool:
        link, failed, answer = Link(pool, CALL_SECONDS_MAX), 0, None
        async with asyncio.timeout(DEADLINE_SECONDS):
            while answer is None:
                try:
                    answer = await link.call(BEAT, [GENERATION], [b"0123456789abcdef", 0])
                except Trouble:
                    failed += 1
        await link.close()

    assert failed > 0  # a connection takes two answers, and its call a third


async def test_a_redis_that_answers_nobody_is_over_after_a_second_in_which_this_process_was_awake():
    async with redis_like(mute) as pool:
        pulse = Pulse(Link(pool, DEADLINE_SECONDS))
        pulse.start()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not pulse.is_failing:  # noqa: ASYNC110 - a condition, with a deadline
                await asyncio.sleep(0)
            time.sleep(OVER_SECONDS + 0.5)  # noqa: ASYNC251 - as if the process had been stopped
            was_over_at_once = pulse.is_over
            while not pulse.is_over:  # noqa: ASYNC110 - a condition, with a deadline
                await asyncio.sleep(TICK_SECONDS)
        await pulse.stop()

    assert not was_over_at_once


async def test_time_in_which_the_process_was_stopped_does_not_count():
    clock = AwakeClock()
    before = clock.now()
    time.sleep(10 * TICK_SECONDS)  # noqa: ASYNC251 - as if the process had been stopped
    stopped = clock.now() - before
    await until(lambda: clock.now() >= before + 3 * TICK_SECONDS)
    clock.stop()

    assert stopped <= 2 * TICK_SECONDS
