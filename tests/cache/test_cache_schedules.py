"""No order of steps lets a copy be shown that is older than what was told: the known traps, and 20,000 random ones."""

from __future__ import annotations

import random

import pytest
from redis.asyncio import Redis
from rounds import rounds
from schedules import Session, ask, now_ms, run

from service.copies.names import Kind

SCHEDULES = rounds(20_000)
"""A fault of one schedule in a thousand is missed by 4,000 with one seed in fifty, by 20,000 with none."""
AT_ONCE = 1_000
STEPS = 14
KINDS = pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: kind.label)


async def filled(redis: Redis, kind: Kind) -> Session:
    """A session with one event, known, and a copy of this kind."""
    session = Session()
    await ask(redis, [session.renew()])
    session.commit(is_append=True)
    await ask(redis, [session.settle(session.writers.pop())])
    await fill(redis, session, kind)
    return session


async def lease(redis: Redis, session: Session, kind: Kind) -> None:
    """A reader takes the lease and reads PostgreSQL."""
    await ask(redis, [session.read(kind)])
    for reader in session.readers:
        reader.seq = session.stored


async def fill(redis: Redis, session: Session, kind: Kind) -> None:
    await lease(redis, session, kind)
    await ask(redis, [session.fill(session.readers.pop(), await now_ms(redis))])


async def shown(redis: Redis, session: Session, kind: Kind) -> int:
    """How often a copy was shown to one more reader: 1 or 0; never one that should not have been."""
    before = session.hits
    await ask(redis, [session.read(kind)])

    assert session.faults == []
    return session.hits - before


@KINDS
async def test_a_copy_is_shown(redis, kind):
    session = await filled(redis, kind)

    assert await shown(redis, session, kind) == 1


@KINDS
async def test_of_two_writers_the_late_one_harms_nothing(redis, kind):
    session = await filled(redis, kind)
    first, second = session.commit(is_append=True), session.commit(is_append=True)
    await ask(redis, [session.settle(second)])
    await ask(redis, [session.settle(first)])

    assert await shown(redis, session, kind) == 0


@KINDS
async def test_writers_in_order_continue_a_copy(redis, kind):
    session = await filled(redis, kind)
    for _ in range(30):
        await ask(redis, [session.settle(session.commit(is_append=True))])

        assert await shown(redis, session, kind) == 1


@KINDS
async def test_a_reader_that_read_before_a_change_makes_no_copy(redis, kind):
    session = Session()
    await ask(redis, [session.renew()])
    await lease(redis, session, kind)
    await ask(redis, [session.settle(session.commit(is_append=True))])
    await ask(redis, [session.fill(session.readers[0], await now_ms(redis))])

    assert await shown(redis, session, kind) == 0


@KINDS
async def test_a_reader_that_read_before_a_change_makes_no_copy_after_an_eviction_either(redis, kind):
    session = await filled(redis, kind)
    await ask(redis, [("DEL", session.name + kind.value)])
    await lease(redis, session, kind)
    late = session.readers.pop()
    await ask(redis, [session.settle(session.commit(is_append=True))])
    await fill(redis, session, kind)
    await ask(redis, [("DEL", session.name + kind.value)])
    await ask(redis, [session.fill(late, await now_ms(redis))])

    assert await shown(redis, session, kind) == 0


@pytest.mark.parametrize("is_append", [True, False])
async def test_a_writer_never_makes_a_copy(redis, is_append):
    session = Session()
    await ask(redis, [session.renew()])
    await ask(redis, [session.settle(session.commit(is_append=is_append))])

    assert await redis.exists(*(session.name + kind.value for kind in Kind)) == 0


@KINDS
async def test_a_late_writer_makes_no_copy_where_a_newer_one_was_evicted(redis, kind):
    session = await filled(redis, kind)
    late = session.commit(is_append=True)
    await ask(redis, [session.settle(session.commit(is_append=True))])
    await ask(redis, [("DEL", session.name + kind.value)])
    await ask(redis, [session.settle(late)])

    assert await redis.exists(session.name + kind.value) == 0


@KINDS
async def test_what_a_killed_writer_left_is_gone_when_the_relay_tells(redis, kind):
    session = await filled(redis, kind)
    session.commit(is_append=True)
    await ask(redis, [session.outdate(session.stored)])

    assert await shown(redis, session, kind) == 0


@KINDS
async def test_a_copy_that_knows_what_the_relay_tells_stays(redis, kind):
    session = await filled(redis, kind)
    await ask(redis, [session.outdate(session.stored)])

    assert await shown(redis, session, kind) == 1


@KINDS
async def test_no_copy_outlives_its_generation(redis, kind):
    session = await filled(redis, kind)
    await ask(redis, [("DEL", session.generation_key)])

    assert await shown(redis, session, kind) == 0


@KINDS
async def test_a_lease_of_another_generation_makes_no_copy(redis, kind):
    session = Session()
    await ask(redis, [session.renew()])
    await lease(redis, session, kind)
    await ask(redis, [session.renew(begin=True)])
    await ask(redis, [session.fill(session.readers[0], await now_ms(redis))])

    assert await redis.exists(session.name + kind.value) == 0


@KINDS
async def test_a_copy_of_the_wrong_type_is_deleted_by_the_next_writer(redis, kind):
    session = await filled(redis, kind)
    await redis.delete(session.name + kind.value)
    await redis.rpush(session.name + kind.value, "x")
    await ask(redis, [session.settle(session.commit(is_append=True))])

    assert await redis.exists(session.name + kind.value) == 0


async def test_random_schedules_show_nothing_stale(redis):
    seed = 20_261_123
    dice = random.Random(seed)  # noqa: S311 - chance, no secret
    faults: list[str] = []
    hits = 0
    for _ in range(SCHEDULES // AT_ONCE):
        sessions = [Session() for _ in range(AT_ONCE)]
        await run(redis, sessions, dice, STEPS)
        faults += [fault for session in sessions for fault in session.faults]
        hits += sum(session.hits for session in sessions)
        await redis.flushdb()

    assert faults == [], f"seed {seed}"
    assert hits > SCHEDULES // 4, "the schedules show too little to prove anything"
