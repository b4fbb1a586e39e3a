"""One stack for all files, made whole again before each test, and its logs where a test fails."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from stack import Stack

from service.domain.work import Queue


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where processes may keep what Python compiles."""
    return tmp_path_factory.mktemp("bytecode")


@pytest.fixture(scope="session")
def running_stack(bytecode: Path) -> Iterator[Stack]:
    """Two web processes and a worker of each queue, which may send to this machine; other tests have killed some of it.

    A file whose processes need another setting has a `running_stack` of its own.
    """
    with Stack(bytecode, queues=tuple(Queue), HOLDFAST_WEBHOOK_ALLOW_PRIVATE="true") as stack:
        yield stack


@pytest.fixture
def stack(running_stack: Stack) -> Stack:
    """The stack, all of it at work."""
    running_stack.heal()
    running_stack.rest()
    return running_stack


@pytest.fixture
def tenant() -> str:
    """A tenant of this test alone."""
    return f"tenant-{uuid4().hex}"


@pytest.fixture
def key(stack: Stack, tenant: str) -> str:
    """An API key of this test's tenant."""
    return stack.key(tenant)


@pytest.fixture
def open_session(stack: Stack, key: str) -> Callable[..., str]:
    """Opens an active session and gives its id."""

    def make(**fields: Any) -> str:
        with stack.client(key) as client:
            answer = client.post("/sessions", json={"agent_id": "e2e", "activate": True} | fields)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    return make


@pytest.fixture
def dice() -> random.Random:
    """Chance for the moments of faults; its seed is printed, to run a failure again."""
    seed = random.randrange(2**32)  # noqa: S311 - no secret
    print(f"the seed of the moments is {seed}")  # noqa: T201 - shown with a failure
    return random.Random(seed)  # noqa: S311 - as above


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the end of every process's log with a failed test."""
    report = yield
    stack = getattr(item, "funcargs", {}).get("running_stack")
    if report.failed and stack is not None:
        report.sections += [(f"the end of {name}'s log", text) for name, text in stack.logs().items()]
    return report
