"""Counting in memory, as it is done while Redis is away: by the same sliding window, and never without an end."""

from __future__ import annotations

import random
from collections import Counter
from uuid import uuid4

import pytest
from limits import parse
from redis.asyncio import Redis

from service import rates
from service.rates import Rates, Windows, address_in, key_of, site_of

MINUTE = 60.0


def test_as_many_as_the_limit_pass_and_then_none():
    windows = Windows(parse("3/minute"))
    standings = [windows.hit("a", 100.0) for _ in range(5)]

    assert [(one.allowed, one.remaining) for one in standings] == [
        (True, 2), (True, 1), (True, 0), (False, 0), (False, 0),
    ]  # fmt: skip
    assert {one.limit for one in standings} == {3}


def test_everybody_is_counted_apart():
    windows = Windows(parse("1/minute"))

    assert [windows.hit(name, 0.0).allowed for name in "abab"] == [True, True, False, False]


@pytest.mark.parametrize("rate", ["1/second", "7/minute", "60/minute", "1000/hour", "1/day"])
@pytest.mark.parametrize("moment", [0.0, 0.3, 12345.678])
def test_whoever_waits_as_long_as_said_is_let_in_again(rate: str, moment: float):
    windows = Windows(parse(rate))
    for _ in range(20):
        while (standing := windows.hit("a", moment)).allowed:
            pass
        moment += standing.reset_seconds

        assert windows.hit("a", moment).allowed, moment


@pytest.mark.parametrize("seed", range(20))
def test_no_window_however_it_is_laid_holds_much_more_than_the_limit(seed: int):
    """What was before counts as if it had been spread evenly: at the worst twice the limit gets through."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    windows, moment, allowed = Windows(parse("10/minute")), 0.0, []
    for _ in range(2000):
        moment += dice.expovariate(1.0)
        if windows.hit("a", moment).allowed:
            allowed.append(moment)
    fullest = max(sum(start <= one < start + MINUTE for one in allowed) for start in allowed)

    assert fullest <= 20
    assert len(allowed) <= 10 * (moment / MINUTE + 1)


def test_in_the_worst_order_of_arrivals_twice_the_limit_gets_through_and_no_more():
    windows = Windows(parse("10/minute"))
    windows.hit("a", 0.0)  # the windows begin here
    allowed = [moment for moment in (119.9, *range(121, 180)) for _ in range(20) if windows.hit("a", moment).allowed]

    assert sum(119.9 <= moment < 119.9 + MINUTE for moment in allowed) == 20
    assert sum(120 <= moment < 120 + MINUTE for moment in allowed) == 10


def test_who_comes_regularly_within_the_limit_is_never_refused():
    windows = Windows(parse("60/minute"))

    assert Counter(windows.hit("a", second * 1.001).allowed for second in range(1000)) == {True: 1000}


def test_memory_has_an_end_and_forgets_first_who_was_silent_for_longest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rates, "WINDOWS_MAX", 3)
    windows = Windows(parse("1/minute"))
    for name in "abc":
        windows.hit(name, 0.0)
    windows.hit("a", 1.0)
    windows.hit("d", 2.0)

    assert len(windows._windows) == 3
    assert [windows.hit(name, 3.0).allowed for name in "acd"] == [False, False, False]
    assert windows.hit("b", 3.0).allowed


@pytest.mark.parametrize("of_window", ["", "/-1"])  # the one that runs, and the one before
@pytest.mark.parametrize("planted", [b"garbage", b"nan", b"0x10", b"1e3", b"9" * 400, b"", ["a", "list"]])
async def test_a_count_in_redis_that_is_none_is_trouble_and_no_error(
    redis_url: str, patient_redis: None, of_window: str, planted: bytes | list[str]
):
    who = str(uuid4())
    counting = Rates(redis_url, per_caller="3/hour", per_tenant=None)
    try:
        async with Redis.from_url(redis_url) as redis:
            await counting.count_caller("t", who)
            [counted] = [key async for key in redis.scan_iter(match=f"*{key_of('caller', 't', who)}*")]
            spoilt = counted.decode() + of_window
            await redis.delete(spoilt)
            await (redis.rpush(spoilt, *planted) if isinstance(planted, list) else redis.set(spoilt, planted))
            await redis.pexpire(spoilt, 7_200_000 if not of_window else 3_600_000)
        standing = await counting.count_caller("t", who)
    finally:
        await counting.stop()

    assert standing is not None
    assert (standing.allowed, standing.limit) == (True, 3)


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:0db8:0001:0002"),
        ("2001:db8:1:2:ffff::", "2001:0db8:0001:0002"),
        ("fe80::1%eth0", "fe80:0000:0000:0000"),
        ("", "unknown"),
        (None, "unknown"),
        ("a" * 10_000, "unknown"),
    ],
)
def test_addresses_that_one_person_may_have_are_one(address: str | None, site: str):
    assert site_of(address) == site


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:4711 ", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ('fe80::1%"},{"x', "fe80::1"),
        ("unknown", None),
        ("_hidden", None),
        ('1.2.3.4 tenant="x"', None),
        ("\x80" * 60_000, None),
        ("", None),
    ],
)
def test_what_a_proxy_says_of_its_client_counts_where_it_is_an_address(said: str, address: str | None):
    assert address_in(said) == address


def test_keys_are_short_and_no_two_lists_of_names_look_alike():
    keys = [key_of(*named) for named in [("k", "ab"), ("k", "a", "b"), ("k", "", "ab"), ("k", "\udcff"), ("c", "ab")]]

    assert len(set(keys)) == len(keys)
    assert {len(key) for key in keys} == {34}
