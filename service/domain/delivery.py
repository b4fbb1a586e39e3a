"""Deliveries: one event on its way to one endpoint, attempt after attempt, until it has arrived or is given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from uuid import UUID

import msgspec

from service.domain.webhook import DisabledReason

RETRIES_AFTER_SECONDS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""API 7: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h; with the first attempt ten in a good three days."""

ATTEMPTS_MAX = len(RETRIES_AFTER_SECONDS) + 1

JITTER = 0.1
"""Each wait is up to a tenth shorter or longer, so that what failed together does not come back together."""

RETRY_AFTER_SECONDS_MAX = 86_400.0
"""As long as the longest wait of ours: no receiver may put a delivery off for good."""

HOST_ATTEMPTS_MAX = 10
"""Webhook attempts in flight from one tenant to one host, over all workers: two endpoints at their full speed."""

FAILING_DAYS_MAX = 5
"""After so many days of nothing but failure an endpoint is disabled."""

FINISHED_DAYS_KEPT = 30
"""How long it can be looked up what became of a delivery."""

TEST_TYPE = "webhook.test"
"""The type of what `POST /webhooks/{id}/test` sends: no event of any session, and nobody subscribes to it."""


class DeliveryStatus(StrEnum):
    """`pending` → `succeeded`, `failed` (given up: a dead letter) or `cancelled` (its endpoint was disabled)."""

    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Failure(StrEnum):
    """Why an attempt failed; never in the words of the receiver, which could be anything.

    `secret_unreadable`: nothing was sent, because the endpoint's secret does not open with `HOLDFAST_SECRET`.
    """

    BAD_STATUS = "bad_status"
    TIMEOUT = "timeout"
    ADDRESS_REFUSED = "address_refused"
    NAME_NOT_FOUND = "name_not_found"
    CONNECTION_FAILED = "connection_failed"
    BAD_ANSWER = "bad_answer"
    SECRET_UNREADABLE = "secret_unreadable"  # noqa: S105 - a word about one


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one event at one endpoint. `attempts` counts since it was last asked for; the last one's answer

    is a code and its latency. Without `next_attempt_at` a pending one is on its way, or waits for an earlier one.
    """

    id: UUID
    webhook_id: UUID
    event_id: UUID
    event_type: str
    session_id: UUID | None
    event_seq: int | None
    status: DeliveryStatus
    attempts: int
    next_attempt_at: datetime | None
    last_attempt_at: datetime | None
    response_status: int | None
    error: Failure | None
    latency_ms: int | None
    created_at: datetime
    finished_at: datetime | None


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one attempt."""

    latency_ms: int
    response_status: int | None = None
    error: Failure | None = None
    retry_after_seconds: float | None = None

    @property
    def is_success(self) -> bool:
        """2xx, in time."""
        return self.error is None


class Verdict(msgspec.Struct, frozen=True):
    """What follows from an attempt: the delivery's status, when it is tried again, and whether the endpoint goes."""

    status: DeliveryStatus
    retry_seconds: float | None = None
    disables: DisabledReason | None = None


def failure_of(response_status: int) -> Failure | None:
    """2xx is success; all else is not, redirects included: they are not followed."""
    return None if 200 <= response_status < 300 else Failure.BAD_STATUS  # noqa: PLR2004 - the bounds of 2xx


def verdict_on(
    outcome: Outcome, *, attempts: int, chance: float, failing_for: timedelta, is_test: bool = False
) -> Verdict:
    """What follows from the attempt number `attempts`.

    `chance` is from 0 to 1 and makes the jitter; `failing_for` is how long the endpoint has known nothing but failure.
    A test is sent once: whoever asked for it is waiting.
    """
    if outcome.is_success:
        return Verdict(DeliveryStatus.SUCCEEDED)
    disables = None
    if outcome.response_status == HTTPStatus.GONE:
        disables = DisabledReason.GONE
    elif failing_for >= timedelta(days=FAILING_DAYS_MAX):
        disables = DisabledReason.FAILING
    if disables is DisabledReason.GONE or is_test or attempts >= ATTEMPTS_MAX:
        return Verdict(DeliveryStatus.FAILED, disables=disables)
    return Verdict(DeliveryStatus.PENDING, retry_seconds(attempts, chance, outcome.retry_after_seconds), disables)


def retry_seconds(attempts: int, chance: float, retry_after_seconds: float | None = None) -> float:
    """How long to wait after the failed attempt number `attempts`: as scheduled, or as long as the receiver asks."""
    scheduled = RETRIES_AFTER_SECONDS[attempts - 1] * (1 - JITTER + 2 * JITTER * chance)
    return max(scheduled, min(retry_after_seconds or 0.0, RETRY_AFTER_SECONDS_MAX))


def retry_after_of(header: str | None, now: datetime) -> float | None:
    """The seconds that a `Retry-After` asks for, be it a number or a date; None when it says nothing that helps."""
    if header is None:
        return None
    header = header.strip()
    if header.isascii() and header.isdigit():
        return min(float(header[:12]), RETRY_AFTER_SECONDS_MAX)
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - now).total_seconds()), RETRY_AFTER_SECONDS_MAX)
