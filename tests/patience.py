"""How long the databases of a test wait for what is slow: far longer than in earnest, on however busy a machine.

The product gives up after 3 s to 6 s. A test in which somebody holds what others wait for, or in which thirty want
the same row, takes longer than that where the machine has other work. So all databases that are opened in the tests'
own process are patient; what is a promise about giving up asks for `impatience`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import hypothesis
import pytest

from service import app, pipelining, queue, rates, wakeups
from service.store import engine

PATIENCE_SECONDS = 60.0
"""It only ends a test that hangs."""

hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)  # fmt: skip
hypothesis.settings.load_profile("patient")
"""An example that takes long says something about the machine only."""

LIMITS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")


@contextmanager
def waiting(seconds: float, *limits: str) -> Iterator[None]:
    """Every database that is opened within the block has these limits."""
    of_a_connection = dict.fromkeys(limits, f"{round(seconds * 1000)}ms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "LIMITS_OF_A_CONNECTION", engine.LIMITS_OF_A_CONNECTION | of_a_connection)
        yield


@contextmanager
def patience() -> Iterator[None]:
    """Every database that is opened within the block waits so long for a connection, for locks and for answers."""
    with waiting(PATIENCE_SECONDS, *LIMITS), pytest.MonkeyPatch.context() as patch:
        for limit in ("ACQUIRE_SECONDS_MAX", "CONNECT_SECONDS_MAX", "COMMAND_SECONDS_MAX", "SEARCH_SECONDS_MAX"):
            patch.setattr(engine, limit, PATIENCE_SECONDS)
        yield


def impatience(seconds: float) -> AbstractContextManager[None]:
    """Every database that is opened within the block waits no longer for a lock, as all do in earnest after 3 s."""
    return waiting(seconds, "lock_timeout")


@pytest.fixture(scope="session", autouse=True)
def patient_databases() -> Iterator[None]:
    """All databases of the tests' own process are patient."""
    with patience():
        yield


@pytest.fixture
def patient_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever begins to speak with Redis in this test waits for its answers; in earnest nobody waits for a hint.

    For tests to which a ring, a wake-up or a count must come that the product may do without.
    """
    monkeypatch.setattr(app, "open_queue", partial(queue.open_queue, timeout_seconds=PATIENCE_SECONDS))
    monkeypatch.setattr(rates, "SOCKET_SECONDS_MAX", PATIENCE_SECONDS)
    monkeypatch.setattr(queue, "RING_SECONDS_MAX", PATIENCE_SECONDS)
    monkeypatch.setattr(wakeups, "PUBLISH_SECONDS_MAX", PATIENCE_SECONDS)
    monkeypatch.setattr(wakeups, "SUBSCRIBE_SECONDS_MAX", PATIENCE_SECONDS)
    monkeypatch.setattr(pipelining, "ANSWER_SECONDS_MAX", PATIENCE_SECONDS)
