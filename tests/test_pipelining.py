"""Questions to Redis that go out together: each gets its own answer, and trouble meets all of them once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError, ResponseError

from service import pipelining
from service.pipelining import PipelinedRedis


@pytest.fixture
async def redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PipelinedRedis]:
    monkeypatch.setattr(pipelining, "ANSWER_SECONDS_MAX", 20.0)
    client = PipelinedRedis(ConnectionPool.from_url(redis_url))
    yield client
    await client.stop()


async def test_each_gets_its_own_answer_over_one_connection(redis: PipelinedRedis) -> None:
    before = await redis.info("stats")
    answers = await asyncio.gather(*(redis.execute_command("ECHO", number) for number in range(500)))
    after = await redis.info("stats")

    assert answers == [str(number).encode() for number in range(500)]
    assert after["total_connections_received"] == before["total_connections_received"]


async def test_what_one_did_wrong_is_no_trouble_of_the_others(redis: PipelinedRedis) -> None:
    found = await asyncio.gather(
        redis.execute_command("ECHO", "a"), redis.execute_command("NOTHING"), redis.ping(), return_exceptions=True
    )

    assert found[0] == b"a"
    assert isinstance(found[1], ResponseError)
    assert found[2] is True


async def test_who_goes_away_while_waiting_harms_nobody(redis: PipelinedRedis) -> None:
    asking = [asyncio.create_task(redis.execute_command("ECHO", number)) for number in range(10)]
    await asyncio.sleep(0)
    for task in asking[::2]:
        task.cancel()
    found = await asyncio.gather(*asking, return_exceptions=True)

    assert [answer for answer in found if not isinstance(answer, BaseException)] == [b"1", b"3", b"5", b"7", b"9"]
    assert await redis.ping()


async def test_a_redis_that_is_not_there_is_told_to_all_at_once(tmp_path) -> None:
    redis = PipelinedRedis(ConnectionPool.from_url(f"unix://{tmp_path}/none.sock"))
    found = await asyncio.gather(*(redis.ping() for _ in range(100)), return_exceptions=True)

    assert all(isinstance(answer, RedisError | OSError) for answer in found)


async def test_a_redis_that_never_answers_is_given_up(tmp_path) -> None:
    async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(never, tmp_path / "hangs.sock")
    redis = PipelinedRedis(ConnectionPool.from_url(f"unix://{tmp_path}/hangs.sock", socket_timeout=1.0))
    found = await asyncio.gather(*(redis.ping() for _ in range(100)), return_exceptions=True)
    await redis.stop()
    server.close()

    assert {type(answer) for answer in found} == {TimeoutError}
