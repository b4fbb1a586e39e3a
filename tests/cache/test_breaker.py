"""The breaker: after some failures in a row it leaves Redis alone for a while, and then tries once."""

from __future__ import annotations

from service.cache import FAILURES_MAX, OPEN_SECONDS, Breaker

NOW = 1000.0


def failed(breaker: Breaker, times: int, now: float = NOW) -> Breaker:
    for _ in range(times):
        breaker.fail(now)
    return breaker


def test_a_few_failures_leave_it_closed_and_one_more_opens_it_for_a_while():
    few, enough = failed(Breaker(), FAILURES_MAX - 1), failed(Breaker(), FAILURES_MAX)

    assert not few.is_open(NOW)
    assert [enough.is_open(NOW + seconds) for seconds in (0.0, OPEN_SECONDS - 0.01, OPEN_SECONDS)] == [
        True,
        True,
        False,
    ]


def test_a_success_between_failures_keeps_it_closed():
    breaker = failed(Breaker(), FAILURES_MAX - 1)
    breaker.succeed()

    assert not failed(breaker, FAILURES_MAX - 1).is_open(NOW)


def test_a_trial_that_fails_opens_it_again_at_once():
    breaker = failed(Breaker(), FAILURES_MAX)
    later = NOW + OPEN_SECONDS

    assert failed(breaker, 1, later).is_open(later)
