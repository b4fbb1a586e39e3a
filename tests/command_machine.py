"""What drives commands on a real database one step at a time, for machines that compare them with a model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import uuid4

from conversations import service_of
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from service.domain.errors import DomainError
from service.store.engine import Database

T = TypeVar("T")


class CommandMachine(RuleBasedStateMachine):
    """A tenant of its own in a database, and a loop of its own to talk to it."""

    def __init__(self, database_url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.database = Database(database_url, connections_max=1)
        self.run(self.database.open())
        self.caller = service_of(f"tenant-{uuid4()}")

    def run(self, work: Awaitable[T]) -> T:
        """Do one thing in this machine's own loop."""

        async def done() -> T:
            return await work

        return self.runner.run(done())

    def outcome(self, work: Awaitable[T]) -> T | str:
        """What a step answers: its value, or the code of its refusal."""
        try:
            return self.run(work)
        except DomainError as refusal:
            return refusal.code

    def conclude(self) -> None:
        """Compare the whole story with the model's, after the last step; a machine without one has nothing to say."""

    def teardown(self) -> None:
        """In the end the whole story must be the one that the model told, and sound in itself."""
        try:
            self.conclude()
        finally:
            self.run(self.database.close())
            self.runner.close()


def drive(machine: Callable[[], CommandMachine], *, examples: int, steps: int) -> None:
    """Let `examples` machines go up to `steps` steps each."""
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
