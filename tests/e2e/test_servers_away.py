"""Valkey and PostgreSQL, killed and hung under load: what clients see meanwhile, and what is left afterwards."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from clients import Clients, Outcome
from processes import processes_below
from stack import Stack, wait_until

from service.store.engine import ACQUIRE_SECONDS_MAX, COMMAND_SECONDS_MAX

CLIENTS_WAIT_SECONDS = 10.0
"""What clients commonly wait: all refusals come before."""

VALKEY_AWAY_SECONDS = 10.0
VALKEY_HANGS_SECONDS = 5.0


@contextmanager
def nothing_restarts(stack: Stack) -> Iterator[None]:
    """The same processes before and after: they live through it."""
    before = [part.pid for part in stack.parts]
    yield
    assert [part.pid for part in stack.parts if part.running] == before


@contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    """Processes that hang: they are there, take connections, and do not answer."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def test_who_waits_for_postgresql_is_refused_before_clients_give_up() -> None:
    assert ACQUIRE_SECONDS_MAX + COMMAND_SECONDS_MAX < CLIENTS_WAIT_SECONDS


def wait_for_readiness(stack: Stack, wanted: str) -> None:
    wait_until(lambda: {web.readiness() for web in stack.webs} == {wanted}, f"every web process says {wanted}")


def test_no_request_fails_while_valkey_is_gone(
    stack: Stack, tenant: str, key: str, open_session: Callable[..., str]
) -> None:
    with nothing_restarts(stack), Clients(stack, key, [open_session() for _ in range(4)]) as clients:
        clients.wait_for_more(20)
        os.kill(stack.servers.redis_pid, signal.SIGKILL)
        gone_since = time.monotonic()
        try:
            wait_for_readiness(stack, "degraded")
            wait_until(lambda: "worker.redis_is_away" in stack.worker.log.read_text(), "the worker noticed")
            wait_until(lambda: time.monotonic() > gone_since + VALKEY_AWAY_SECONDS, "it was gone for long")
        finally:
            stack.servers.start_redis()
        wait_for_readiness(stack, "ready")
        wait_until(lambda: "worker.redis_is_back" in stack.worker.log.read_text(), "the worker polls again")
        clients.wait_for_more(20)

    stack.wait_until_relayed()
    assert set(clients.counted()) == {201}
    assert clients.history() == stack.ledger.messages(tenant)
    assert stack.ledger.violations() == []


def test_a_hanging_valkey_fails_no_request_and_holds_no_event_back(
    stack: Stack, tenant: str, key: str, open_session: Callable[..., str]
) -> None:
    with nothing_restarts(stack):
        with paused([stack.servers.redis_pid]):
            with Clients(stack, key, [open_session() for _ in range(4)]) as clients:
                hangs_since = time.monotonic()
                wait_for_readiness(stack, "degraded")
                clients.wait_for_more(20)
                wait_until(lambda: time.monotonic() > hangs_since + VALKEY_HANGS_SECONDS, "it hung for long")
            # No doorbell can ring and no later event can bring these along: the sweep alone finds them.
            stack.wait_until_relayed()
        wait_for_readiness(stack, "ready")

    assert set(clients.counted()) == {201}
    assert clients.history() == stack.ledger.messages(tenant)
    assert stack.ledger.violations() == []


def test_a_killed_postgresql_costs_503s_and_nothing_acknowledged(
    stack: Stack, tenant: str, key: str, open_session: Callable[..., str], dice: random.Random
) -> None:
    with nothing_restarts(stack), Clients(stack, key, [open_session() for _ in range(4)]) as clients:
        for _ in range(2):
            clients.wait_for_more(20)
            refused = clients.counted()[503]
            clients.hurry(dice)
            os.kill(stack.servers.postgres_pid, signal.SIGKILL)
            clients.relax()
            try:
                wait_for_readiness(stack, "unavailable")
                wait_until(lambda refused=refused: clients.counted()[503] > refused + 8, "clients were refused")
            finally:
                stack.servers.start_postgres()
            wait_for_readiness(stack, "ready")
        clients.wait_for_more(20)

    assert_refused_politely_and_kept(stack, clients, tenant)


def test_a_hanging_postgresql_costs_503s_and_nothing_acknowledged(
    stack: Stack, tenant: str, key: str, open_session: Callable[..., str]
) -> None:
    with nothing_restarts(stack), Clients(stack, key, [open_session() for _ in range(4)]) as clients:
        clients.wait_for_more(20)
        postmaster = stack.servers.postgres_pid
        with paused([postmaster, *processes_below(postmaster)]):
            wait_until(lambda: all(503 in outcomes_of(one) for one in clients.outcomes), "every client was refused")
        wait_for_readiness(stack, "ready")
        clients.wait_for_more(20)

    assert_refused_politely_and_kept(stack, clients, tenant)


def outcomes_of(attempts: list[Outcome]) -> set[int | str]:
    return {attempt.what for attempt in attempts}


def assert_refused_politely_and_kept(stack: Stack, clients: Clients, tenant: str) -> None:
    """Every answer was a 201 or a 503 that says when to come back; and all that was acknowledged is there."""
    stack.wait_until_relayed()
    assert set(clients.counted()) == {201, 503}
    refusals = [outcome for own in clients.outcomes for outcome in own if outcome.what == 503]
    assert all(outcome.retry_after and int(outcome.retry_after) > 0 for outcome in refusals)
    assert clients.history() == stack.ledger.messages(tenant)
    assert stack.ledger.violations() == []
