"""A message with parallel calls, driven through every step, legal or not, against a model of the diagram of API 4."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from command_machine import CommandMachine, drive
from conversations import CAUSE, acted, asked, opened, query
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
)
from invariants import violations
from rounds import rounds

from service.commands.messages import append_messages
from service.commands.sessions import end_session
from service.domain.caller import Caller, CallerKind, Scope
from service.domain.message import MessageDraft, Role
from service.domain.session import Session, SessionConfig
from service.domain.tool_call import ToolCall
from service.store import sessions, tool_calls
from workers.jobs.expire_tool_calls import sweep_late_tool_calls

CALLS = 3
EXAMPLES = rounds(60)
"""A fault on one way in ten is missed by 12 ways in 28 % of all runs, by 60 in 0.2 %."""
STEPS = 20

ARROWS = {
    "pending": {"approve": "approved", "reject": "rejected", "cancel": "cancelled"},
    "approved": {"start": "running", "complete": "completed", "fail": "failed", "cancel": "cancelled"},
    "running": {"complete": "completed", "fail": "failed", "cancel": "cancelled"},
}
TOLD = {"running": "started"}
PEOPLE = ["ada", "bob"]
FULL_TIME = timedelta(minutes=SessionConfig().timeout_minutes)


class CallMachine(CommandMachine):
    """The real commands on a real database, one step at a time; a call's model is its status and who decided."""

    def __init__(self, database_url: str) -> None:
        super().__init__(database_url)
        self.calls: list[ToolCall] = []
        self.status: list[str] = []
        self.decision: list[tuple[str, str] | None] = []
        self.late: list[bool] = []
        self.events: list[str] = []
        self.is_over = False
        self.messages = 0
        self.expires_at: datetime | None = None

    @initialize(waits=st.booleans())
    def ask(self, *, waits: bool) -> None:
        self.session = self.run(opened(self.database, self.caller))
        names = [f"tool-{n}" for n in range(CALLS)]
        self.calls = self.run(asked(self.database, self.caller, self.session.id, *names, requires_approval=waits))
        self.status = ["pending" if waits else "approved"] * CALLS
        self.decision = [None if waits else ("approve", "policy")] * CALLS
        self.late = [False] * CALLS
        self.events = ["tool_call.requested"] * CALLS
        self.messages = 1

    def become(self, place: int, status: str) -> None:
        self.status[place] = status
        self.late[place] = False
        self.events.append(f"tool_call.{TOLD.get(status, status)}")

    def shown(self, place: int) -> str:
        return "expired" if self.late[place] else self.status[place]

    @rule(
        place=st.integers(0, CALLS - 1),
        action=st.sampled_from(["approve", "approve", "reject", "start", "complete", "fail", "cancel"]),
        person=st.sampled_from(PEOPLE),
    )
    def act(self, place: int, action: str, person: str) -> None:
        by = Caller(self.caller.tenant_id, person, CallerKind.SERVICE, frozenset({Scope.ADMIN}))
        fields = {"error": "boom"} if action == "fail" else {}

        answer = self.outcome(acted(self.database, by, self.calls[place], action, **fields))

        decided, target = self.decision[place], ARROWS.get(self.shown(place), {}).get(action)
        if action in {"approve", "reject"} and decided is not None:
            if decided != (action, person):
                assert answer == "already_decided"
            else:
                assert isinstance(answer, ToolCall)
        elif target is None:
            assert answer == "invalid_transition"
        else:
            assert isinstance(answer, ToolCall)
            self.become(place, target)
            self.expires_at = None
            if action in {"approve", "reject"}:
                self.decision[place] = (action, person)

    @rule(place=st.integers(0, CALLS - 1))
    def tell_the_result(self, place: int) -> None:
        draft = MessageDraft(role=Role.TOOL, tool_call_id=str(self.calls[place].id), content="done")

        async def work() -> bool:
            async with self.database.begin() as tx:
                await append_messages(tx, self.caller, self.session.id, [draft], CAUSE)
            return True

        answer = self.outcome(work())

        if self.is_over:
            assert answer == "session_not_active"
        elif self.shown(place) in {"approved", "running"}:
            assert answer is True
            self.become(place, "completed")
            self.messages, self.expires_at = self.messages + 1, None
        elif self.shown(place) in {"rejected", "expired", "cancelled"}:
            assert answer is True
            self.messages, self.expires_at = self.messages + 1, None
        else:
            assert answer == "invalid_transition"

    @precondition(lambda self: "pending" in self.status)
    @rule()
    def let_the_first_that_waits_be_late(self) -> None:
        place = self.status.index("pending")
        statement = "UPDATE tool_calls SET expires_at = created_at WHERE id = $1"
        self.run(query(self.database, statement, self.calls[place].id))
        self.late[place] = True

    @rule()
    def sweep(self) -> None:
        assert self.run(sweep_late_tool_calls(self.database)) == sum(self.late)
        for place in range(CALLS):
            if self.late[place]:
                self.become(place, "expired")

    def cut(self) -> None:
        for place in range(CALLS):
            if self.status[place] in ARROWS:
                self.become(place, "expired" if self.late[place] else "cancelled")

    @precondition(lambda self: not self.is_over)
    @rule()
    def end(self) -> None:
        async def work() -> None:
            async with self.database.begin() as tx:
                await end_session(tx, self.caller, self.session.id, None, CAUSE)

        self.run(work())
        self.is_over = True
        self.cut()

    @invariant()
    def every_call_reads_as_the_model_says(self) -> None:
        async def work() -> tuple[list[str], Session]:
            async with self.database.connect() as tx:
                found = await tool_calls.of_messages(tx, self.session.id, [self.calls[0].message_id])
                session = await sessions.get(tx, self.caller, self.session.id)
            assert session is not None
            return [call.status.value for call in found[self.calls[0].message_id]], session

        if self.calls:
            read, session = self.run(work())
            if self.expires_at is None:  # the last step was activity
                self.expires_at = session.updated_at + FULL_TIME
            assert read == [self.shown(place) for place in range(CALLS)]
            assert session.pending_tool_call_count == self.status.count("pending")
            assert session.message_count == self.messages
            assert session.expires_at == self.expires_at

    def conclude(self) -> None:
        if self.calls:
            self.sweep()  # what is late here must not be found by the next machine's sweep
            self.run(self.assert_the_story_is_told(self.session.id))

    async def assert_the_story_is_told(self, session_id: UUID) -> None:
        rows = await query(
            self.database,
            r"SELECT type FROM events WHERE session_id = $1 AND type LIKE 'tool\_call.%' ORDER BY seq",
            session_id,
        )
        assert [row["type"] for row in rows] == self.events
        async with self.database.connect() as tx:
            assert await violations(tx._connection, session_id) == []


def test_parallel_calls_go_every_way_that_the_diagram_draws_and_no_other(own_database_url: str):
    drive(lambda: CallMachine(own_database_url), examples=EXAMPLES, steps=STEPS)
