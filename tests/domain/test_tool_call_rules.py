"""The diagram of API 4, written here a second time, against the table that the product goes by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import msgspec
import pytest
from drawn import arrows

from service.domain.errors import AlreadyDecided, InsufficientScope, InvalidTransition
from service.domain.event import EventType
from service.domain.policy import Judge, asked_for
from service.domain.session import SessionConfig
from service.domain.tool_call import (
    OPEN,
    POLICY,
    RESULT_CHARACTERS_MAX,
    STEPS,
    Action,
    CallStatus,
    Request,
    ToolCall,
    ToolCallDraft,
    after_message,
    after_step,
    allowed_actions,
    as_of,
    cancelled,
    event_of,
    fault_of_result,
    why_cancelled,
)
from service.ids import new_id

DIAGRAM = """
    pending  --approve---> approved
    pending  --reject----> rejected
    pending  --cancel----> cancelled
    approved --start-----> running
    approved --complete--> completed
    approved --fail------> failed
    approved --cancel----> cancelled
    running  --complete--> completed
    running  --fail------> failed
    running  --cancel----> cancelled
"""
ASKED = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOW = ASKED + timedelta(seconds=30)
INSTANT = timedelta(microseconds=1)
TIMEOUT_SECONDS = 60
DEADLINE = ASKED + timedelta(seconds=TIMEOUT_SECONDS)

PERSON, OTHER = "ada", "bob"


def pending_call(timeout: int | None = TIMEOUT_SECONDS) -> ToolCall:
    draft = ToolCallDraft(tool_name="shell", arguments={"n": 1}, requires_approval=True)
    return asked_for(new_id(), new_id(), new_id(), draft, Judge(SessionConfig(approval_timeout_seconds=timeout)), ASKED)


def request(action: str, by: str = PERSON, **fields: Any) -> Request:
    if action == "fail":
        fields = {"error": "no such file"} | fields
    return Request(action=Action(action), by=by, **fields)


def after(call: ToolCall, *actions: str) -> ToolCall:
    for action in actions:
        changed = after_step(call, request(action), NOW)
        assert changed is not None
        call = changed
    return call


def call_that_is(status: CallStatus) -> ToolCall:
    ways: dict[CallStatus, tuple[str, ...]] = {
        CallStatus.PENDING: (),
        CallStatus.APPROVED: ("approve",),
        CallStatus.REJECTED: ("reject",),
        CallStatus.RUNNING: ("approve", "start"),
        CallStatus.COMPLETED: ("approve", "complete"),
        CallStatus.FAILED: ("approve", "start", "fail"),
        CallStatus.CANCELLED: ("cancel",),
    }
    if status is CallStatus.EXPIRED:
        return as_of(pending_call(), DEADLINE)
    return after(pending_call(), *ways[status])


@pytest.mark.parametrize(
    ("config", "asks", "status", "reason"),
    [
        ({}, False, "approved", "no approval is needed"),
        ({}, True, "pending", "the request asks for approval"),
        ({"approval_tools": ["mail.*"]}, False, "pending", "approval_tools has 'mail.*'"),
        ({"approval_tools": ["mail"]}, False, "approved", "no approval is needed"),
        ({"approval_tools": ["MAIL.*"]}, False, "approved", "no approval is needed"),
        ({"allowed_tools": ["mail.*"]}, False, "approved", "no approval is needed"),
        ({"allowed_tools": ["search"]}, False, "rejected", "allowed_tools has no match"),
        ({"allowed_tools": ["search"]}, True, "rejected", "allowed_tools has no match"),
        ({"blocked_tools": ["*"]}, True, "rejected", "blocked_tools has '*'"),
        ({"blocked_tools": ["m?il.*"], "allowed_tools": ["*"]}, True, "rejected", "blocked_tools has 'm?il.*'"),
        ({"blocked_tools": ["rm"], "allowed_tools": ["mail.send"]}, True, "pending", "the request asks for approval"),
        ({"allowed_tools": ["*"], "approval_tools": ["x", "*.send"]}, False, "pending", "approval_tools has '*.send'"),
    ],
)
def test_blocked_comes_before_allowed_and_allowed_before_approval(
    config: dict[str, Any], asks: bool, status: str, reason: str
):
    verdict = Judge(SessionConfig(**config)).verdict_of(ToolCallDraft(tool_name="mail.send", requires_approval=asks))

    assert (verdict.status.value, verdict.reason) == (status, reason)


def test_what_the_policy_decides_is_decided_by_the_policy_at_once():
    for config in (SessionConfig(), SessionConfig(blocked_tools=["*"], approval_timeout_seconds=TIMEOUT_SECONDS)):
        call = asked_for(new_id(), new_id(), new_id(), ToolCallDraft(tool_name="t"), Judge(config), ASKED)

        assert (call.decided_by, call.decided_at, call.requires_approval, call.expires_at) == (
            POLICY, ASKED, False, None,
        )  # fmt: skip


def test_a_pending_call_is_decided_by_nobody_and_expires_after_its_sessions_approval_timeout():
    call = pending_call()

    assert (call.decided_by, call.decided_at, call.requires_approval) == (None, None, True)
    assert call.expires_at == DEADLINE
    assert pending_call(timeout=None).expires_at is None


def test_the_steps_are_those_of_the_diagram():
    assert {(origin.value, action.value): target.value for (origin, action), target in STEPS.items()} == arrows(DIAGRAM)


@pytest.mark.parametrize(("status", "action"), list(product(CallStatus, Action)))
def test_a_step_leads_where_the_diagram_says_or_is_refused(status: CallStatus, action: Action):
    call = call_that_is(status)
    target = arrows(DIAGRAM).get((status.value, action.value))
    asked = request(action, by=OTHER)
    decides = action in {Action.APPROVE, Action.REJECT}

    if target is not None:
        changed = after_step(call, asked, NOW)
        assert changed is not None
        assert (changed.status, changed.version) == (target, call.version + 1)
    elif decides and call.decided_by is not None:
        with pytest.raises(AlreadyDecided) as lost:
            after_step(call, asked, NOW)
        won = "rejected" if status is CallStatus.REJECTED else "approved"
        assert lost.value.extras == {
            "current_status": status,
            "decision": {"status": won, "decided_by": PERSON, "decided_at": NOW},
        }
    else:
        with pytest.raises(InvalidTransition) as refused:
            after_step(call, asked, NOW)
        assert refused.value.extras == {
            "current_status": status,
            "allowed": [name for origin, name in arrows(DIAGRAM) if origin == status.value],
        }


@pytest.mark.parametrize("status", CallStatus)
def test_what_is_allowed_is_what_the_diagram_draws_from_there(status: CallStatus):
    drawn = [name for origin, name in arrows(DIAGRAM) if origin == status.value]

    assert [action.value for action in allowed_actions(status)] == drawn
    assert (status in OPEN) is bool(drawn)


@pytest.mark.parametrize("since", [(), ("start",), ("complete",), ("start", "fail")])
def test_the_very_same_decision_by_the_same_person_changes_nothing(since: tuple[str, ...]):
    edited = request("approve", reason="careful", arguments=b'{"a":1,"b":[2]}')
    approved = after_step(pending_call(), edited, NOW)
    assert approved is not None

    same = request("approve", reason="careful", arguments=b'{"b":[2],"a":1}')
    assert after_step(after(approved, *since), same, NOW) is None
    assert after_step(call_that_is(CallStatus.REJECTED), request("reject"), NOW) is None


@pytest.mark.parametrize(
    "other",
    [
        request("reject", reason="careful"),
        request("approve", reason="careful"),
        request("approve", arguments=b'{"n":7}'),
        request("approve", reason="careless", arguments=b'{"n":7}'),
        request("approve", reason="careful", arguments=b'{"n":8}'),
        request("approve", by=OTHER, reason="careful", arguments=b'{"n":7}'),
    ],
)
def test_any_other_decision_is_too_late(other: Request):
    approved = after_step(pending_call(), request("approve", reason="careful", arguments=b'{"n":7}'), NOW)
    assert approved is not None

    with pytest.raises(AlreadyDecided):
        after_step(approved, other, NOW)


def test_an_approval_keeps_who_when_why_and_the_original_of_edited_arguments():
    call = pending_call()
    plain = after_step(call, request("approve"), NOW)
    edited = after_step(call, request("approve", reason="careful", arguments=b'{"n":7}'), NOW)
    assert plain is not None
    assert edited is not None

    assert (plain.arguments, plain.original_arguments) == (call.arguments, None)
    assert (bytes(edited.arguments), edited.original_arguments) == (b'{"n":7}', call.arguments)
    assert (edited.decided_by, edited.decided_at, edited.reason) == (PERSON, NOW, "careful")


def test_what_runs_tells_when_it_began_and_how_it_ended():
    running = call_that_is(CallStatus.RUNNING)
    completed = after_step(running, request("complete", result=b'{"ok":true}'), NOW + INSTANT)
    failed = after_step(running, request("fail", error="boom"), NOW + INSTANT)
    assert completed is not None
    assert failed is not None

    assert (running.started_at, running.executed_at) == (NOW, None)
    assert (completed.result, completed.error, completed.executed_at) == (
        msgspec.Raw(b'{"ok":true}'), None, NOW + INSTANT,
    )  # fmt: skip
    assert (failed.result, failed.error, failed.executed_at) == (None, "boom", NOW + INSTANT)


@pytest.mark.parametrize("action", Action)
def test_from_the_very_moment_of_its_deadline_a_pending_call_takes_nothing_more(action: Action):
    for moment in (DEADLINE, DEADLINE + INSTANT, DEADLINE + timedelta(days=1)):
        with pytest.raises(InvalidTransition) as refused:
            after_step(pending_call(), request(action), moment)
        assert refused.value.extras == {"current_status": CallStatus.EXPIRED, "allowed": []}


def test_until_the_very_moment_of_its_deadline_a_pending_call_can_be_approved():
    approved = after_step(pending_call(), request("approve"), DEADLINE - INSTANT)

    assert approved is not None
    assert approved.status is CallStatus.APPROVED


@pytest.mark.parametrize("status", [status for status in CallStatus if status is not CallStatus.PENDING])
def test_time_changes_nothing_about_a_call_that_does_not_wait(status: CallStatus):
    call = call_that_is(status)

    assert as_of(call, DEADLINE + timedelta(days=1)) is call


def test_a_pending_call_without_a_deadline_waits_for_ever():
    call = pending_call(timeout=None)

    assert as_of(call, ASKED + timedelta(days=36_500)) is call


def test_nobody_has_decided_a_call_that_expired_or_was_cancelled_while_it_waited():
    for call in (as_of(pending_call(), DEADLINE), cancelled(pending_call(), "the session ended")):
        assert (call.decided_by, call.decided_at, call.version) == (None, None, 2)


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_nobody_who_is_called_like_the_policy_decides(decision: str):
    free = asked_for(new_id(), new_id(), new_id(), ToolCallDraft(tool_name="t"), Judge(SessionConfig()), ASKED)
    for call in (pending_call(), free):
        with pytest.raises(InsufficientScope):
            after_step(call, request(decision, by=POLICY, reason=call.reason), NOW)

    assert after_step(free, request("start", by=POLICY), NOW) is not None


@pytest.mark.parametrize("why", ["never mind", None])
@pytest.mark.parametrize("since", [(), ("start",)])
def test_a_cancelled_call_keeps_the_reason_of_its_decision(since: tuple[str, ...], why: str | None):
    approval = request("approve", reason="careful")
    approved = after_step(pending_call(), approval, NOW)
    assert approved is not None
    cancelled_call = after_step(after(approved, *since), request("cancel", by=OTHER, reason=why), NOW)
    assert cancelled_call is not None

    assert (cancelled_call.reason, cancelled_call.error, cancelled_call.decided_by) == ("careful", why, PERSON)
    assert why_cancelled(cancelled_call) == why
    assert after_step(cancelled_call, approval, NOW) is None


@pytest.mark.parametrize("why", ["never mind", None])
def test_a_call_that_was_cancelled_before_anybody_decided_has_the_reason_of_that(why: str | None):
    call = after_step(pending_call(), request("cancel", reason=why), NOW)
    assert call is not None

    assert (call.reason, call.error, call.decided_by) == (why, None, None)
    assert why_cancelled(call) == why


@pytest.mark.parametrize("status", [CallStatus.APPROVED, CallStatus.RUNNING])
def test_a_tools_message_completes_a_call_that_may_run(status: CallStatus):
    changed = after_message(call_that_is(status), PERSON, b'"words"', NOW)

    assert changed is not None
    assert (changed.status, bytes(changed.result or b"")) == (CallStatus.COMPLETED, b'"words"')


@pytest.mark.parametrize("status", [CallStatus.REJECTED, CallStatus.EXPIRED, CallStatus.CANCELLED])
def test_a_tools_message_leaves_a_call_as_it_is_that_ended_without_a_result(status: CallStatus):
    assert after_message(call_that_is(status), PERSON, b'"words"', NOW) is None


def test_a_tools_message_leaves_a_call_as_it_is_that_has_expired_before_a_sweep_recorded_it():
    assert after_message(pending_call(), PERSON, b'"words"', DEADLINE) is None


@pytest.mark.parametrize("status", [CallStatus.PENDING, CallStatus.COMPLETED, CallStatus.FAILED])
def test_a_tools_message_is_refused_for_a_call_that_waits_or_has_an_outcome(status: CallStatus):
    with pytest.raises(InvalidTransition) as refusal:
        after_message(call_that_is(status), PERSON, b'"words"', NOW)

    assert refusal.value.extras["current_status"] is status


@pytest.mark.parametrize(
    ("longest", "fault"),
    [
        ("y" * RESULT_CHARACTERS_MAX, "Expected `str` of length <= 100000"),
        ("\U0001f600" * RESULT_CHARACTERS_MAX, "Expected `str` of length <= 100000"),
        ('"' * RESULT_CHARACTERS_MAX, "Expected `str` of length <= 100000"),
        ({"a": "y" * (RESULT_CHARACTERS_MAX - len('{"a":""}'))}, "Longer than 100000 characters of JSON"),
        (["\U0001f600" * (RESULT_CHARACTERS_MAX - len('[""]'))], "Longer than 100000 characters of JSON"),
    ],
    ids=["text", "emoji", "quotes", "object", "list of emoji"],
)
def test_a_result_is_counted_in_characters_of_its_text_or_of_its_json(longest: Any, fault: str):
    encoded = msgspec.json.encode(longest)
    one_more = msgspec.json.encode(longest).replace(b'"]', b'y"]').replace(b'"}', b'y"}')
    if isinstance(longest, str):
        one_more = msgspec.json.encode(longest + "y")

    assert fault_of_result(encoded) is None
    assert fault_of_result(one_more) == fault


def test_each_status_has_its_own_event():
    assert {status: event_of(status).value for status in CallStatus} == {
        CallStatus.PENDING: "tool_call.requested",
        CallStatus.RUNNING: "tool_call.started",
        **{
            status: f"tool_call.{status.value}"
            for status in CallStatus
            if status not in {CallStatus.PENDING, CallStatus.RUNNING}
        },
    }
    assert len({event_of(status) for status in CallStatus}) == len(CallStatus)
    assert all(isinstance(event_of(status), EventType) for status in CallStatus)
