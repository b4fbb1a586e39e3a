from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.delivery import (
    ATTEMPTS_MAX,
    FAILING_DAYS_MAX,
    RETRIES_AFTER_SECONDS,
    RETRY_AFTER_SECONDS_MAX,
    DeliveryStatus,
    Failure,
    Outcome,
    failure_of,
    retry_after_of,
    retry_seconds,
    verdict_on,
)
from service.domain.webhook import DisabledReason

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
NO_TIME = timedelta(0)
CHANCES = st.floats(0, 1)
ATTEMPTS = st.integers(1, ATTEMPTS_MAX)


def refused(status: int = 500, **fields: float) -> Outcome:
    return Outcome(latency_ms=1, response_status=status, error=Failure.BAD_STATUS, **fields)


def test_under_a_virtual_clock_ten_attempts_are_made_at_the_times_of_the_schedule():
    """The middle of the jitter: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h after one another."""
    clock, attempts, made = NOW, 0, []
    status, failing_since = DeliveryStatus.PENDING, NOW
    while status is DeliveryStatus.PENDING:
        attempts += 1
        made.append(clock - NOW)
        verdict = verdict_on(refused(), attempts=attempts, chance=0.5, failing_for=clock - failing_since)
        status = verdict.status
        clock += timedelta(seconds=verdict.retry_seconds or 0)

    hours = [timedelta(hours=number) for number in (2, 5, 10, 14, 20, 24)]
    waits = [timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30), *hours]
    assert [later - earlier for earlier, later in pairwise(made)] == waits
    assert (len(made), status) == (10, DeliveryStatus.FAILED)


@given(ATTEMPTS.filter(lambda attempts: attempts < ATTEMPTS_MAX), CHANCES)
def test_each_wait_is_at_most_a_tenth_shorter_or_longer(attempts: int, chance: float):
    nominal = RETRIES_AFTER_SECONDS[attempts - 1]

    assert 0.9 * nominal - 1e-6 <= retry_seconds(attempts, chance) <= 1.1 * nominal + 1e-6


@given(ATTEMPTS, st.integers(200, 299), st.timedeltas(NO_TIME, timedelta(days=9)), st.booleans())
def test_any_2xx_is_success_whatever_came_before(attempts: int, status: int, failing: timedelta, is_test: bool):
    outcome = Outcome(latency_ms=1, response_status=status, error=failure_of(status))
    verdict = verdict_on(outcome, attempts=attempts, chance=0.5, failing_for=failing, is_test=is_test)

    assert (verdict.status, verdict.disables) == (DeliveryStatus.SUCCEEDED, None)


@given(st.integers(100, 599).filter(lambda status: status // 100 != 2))
def test_nothing_else_is(status: int):
    assert failure_of(status) is Failure.BAD_STATUS


@pytest.mark.parametrize("error", list(Failure))
@given(attempts=ATTEMPTS, chance=CHANCES, failing=st.timedeltas(NO_TIME, timedelta(days=9)))
def test_a_failure_is_tried_again_until_the_tenth_attempt(
    error: Failure, attempts: int, chance: float, failing: timedelta
):
    verdict = verdict_on(Outcome(latency_ms=1, error=error), attempts=attempts, chance=chance, failing_for=failing)

    assert verdict.status == (DeliveryStatus.PENDING if attempts < ATTEMPTS_MAX else DeliveryStatus.FAILED)
    assert (verdict.retry_seconds is None) == (verdict.status is DeliveryStatus.FAILED)
    assert verdict.disables == (DisabledReason.FAILING if failing >= timedelta(days=FAILING_DAYS_MAX) else None)


@given(ATTEMPTS, CHANCES)
def test_410_ends_the_delivery_and_the_endpoint(attempts: int, chance: float):
    verdict = verdict_on(refused(410), attempts=attempts, chance=chance, failing_for=NO_TIME)

    assert (verdict.status, verdict.disables) == (DeliveryStatus.FAILED, DisabledReason.GONE)


def test_a_test_is_sent_once():
    verdict = verdict_on(refused(), attempts=1, chance=0.5, failing_for=NO_TIME, is_test=True)

    assert verdict.status is DeliveryStatus.FAILED


@given(ATTEMPTS.filter(lambda attempts: attempts < ATTEMPTS_MAX), CHANCES, st.floats(0, 1e9))
def test_retry_after_puts_off_and_never_hastens_nor_takes_more_than_a_day(attempts: int, chance: float, asked: float):
    verdict = verdict_on(refused(503, retry_after_seconds=asked), attempts=attempts, chance=chance, failing_for=NO_TIME)
    scheduled = retry_seconds(attempts, chance)

    assert verdict.retry_seconds == max(scheduled, min(asked, RETRY_AFTER_SECONDS_MAX))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("9" * 400, RETRY_AFTER_SECONDS_MAX),
        (format_datetime(NOW + timedelta(minutes=2), usegmt=True), 120.0),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0.0),
        ("Sat, 31 Jan 2026 12:02:00 -0000", 120.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", RETRY_AFTER_SECONDS_MAX),
        (None, None),
        ("", None),
        ("-5", None),
        ("soon", None),
        ("1.5", None),
        ("٣", None),
        ("Sat, 99 Jan 2026 12:02:00 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str | None, seconds: float | None):
    assert retry_after_of(header, NOW) == seconds


@given(st.text(max_size=60))
def test_no_retry_after_breaks_anything(header: str):
    found = retry_after_of(header, NOW)

    assert found is None or 0 <= found <= RETRY_AFTER_SECONDS_MAX
