"""Tool calls: who decides, and how a call goes from asked to done.

The diagram is drawn in `docs/states.md`; `STEPS` is the same diagram as a table.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, assert_never
from uuid import UUID

import msgspec
from msgspec import Meta

from service.domain.caller import Scope
from service.domain.errors import AlreadyDecided, InsufficientScope, InvalidTransition
from service.domain.event import EventType
from service.domain.json_text import parsed

ARGUMENTS_BYTES_MAX = 256 * 1024 - 1
"""Arguments of 256 KiB are a file; files go into attachments."""

RESULT_CHARACTERS_MAX = 100_000
"""A result is counted in characters, whichever way it comes: those of a text, or of the JSON of anything else."""

CALLS_PER_MESSAGE_MAX = 100
"""More parallel calls than any provider's model asks for in one turn."""

POLICY = "policy"
"""Who decided when no person did. Credentials of this name decide nothing, so that nobody is mistaken for it."""

NAMED_LIKE_POLICY = (
    f"In decided_by the name '{POLICY}' stands for the session's policy: decide with credentials of another name."
)

SESSION_ENDED = "the session ended"
SESSION_EXPIRED = "the session expired"
MESSAGE_DELETED = "its message was deleted"

ToolName = Annotated[str, Meta(min_length=1, max_length=200)]
ProviderCallId = Annotated[str, Meta(min_length=1, max_length=200)]
Reason = Annotated[str, Meta(max_length=2000)]
ErrorText = Annotated[str, Meta(min_length=1, max_length=10_000)]


class CallStatus(StrEnum):
    """Where a tool call stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Action(StrEnum):
    """What a caller may ask of a tool call."""

    APPROVE = "approve"
    REJECT = "reject"
    START = "start"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"


OPEN = frozenset({CallStatus.PENDING, CallStatus.APPROVED, CallStatus.RUNNING})
"""Calls whose end is still to come; they are cancelled with their session."""

ENDED_WITHOUT_RESULT = frozenset({CallStatus.REJECTED, CallStatus.EXPIRED, CallStatus.CANCELLED})
"""Calls that can get no result any more. A tool's message about one is stored, and the call stays as it is."""

DECISIONS = {Action.APPROVE: CallStatus.APPROVED, Action.REJECT: CallStatus.REJECTED}
"""The actions that decide."""

STEPS: dict[tuple[CallStatus, Action], CallStatus] = {
    (CallStatus.PENDING, Action.APPROVE): CallStatus.APPROVED,
    (CallStatus.PENDING, Action.REJECT): CallStatus.REJECTED,
    (CallStatus.PENDING, Action.CANCEL): CallStatus.CANCELLED,
    (CallStatus.APPROVED, Action.START): CallStatus.RUNNING,
    (CallStatus.APPROVED, Action.COMPLETE): CallStatus.COMPLETED,
    (CallStatus.APPROVED, Action.FAIL): CallStatus.FAILED,
    (CallStatus.APPROVED, Action.CANCEL): CallStatus.CANCELLED,
    (CallStatus.RUNNING, Action.COMPLETE): CallStatus.COMPLETED,
    (CallStatus.RUNNING, Action.FAIL): CallStatus.FAILED,
    (CallStatus.RUNNING, Action.CANCEL): CallStatus.CANCELLED,
}


def scope_of(action: Action) -> Scope:
    """The scope that an action takes: people decide, the agent runs, and either may cut a call off."""
    match action:
        case Action.APPROVE | Action.REJECT:
            return Scope.TOOL_CALLS_DECIDE
        case Action.START | Action.COMPLETE | Action.FAIL:
            return Scope.SESSIONS_ACT
        case Action.CANCEL:
            return Scope.SESSIONS_WRITE
        case _:
            assert_never(action)


class ToolCallDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A call as an assistant message brings it. `provider_call_id`: the id that the model's provider gave it."""

    tool_name: ToolName
    arguments: dict[str, Any] = {}
    requires_approval: bool = False
    provider_call_id: ProviderCallId | None = None


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call as its callers see it. `original_arguments` is set where an approval edited them.

    `reason` is that of the decision, for good: why a call was cancelled after it is in `error`.
    """

    id: UUID
    session_id: UUID
    message_id: UUID
    provider_call_id: str | None
    tool_name: str
    arguments: msgspec.Raw
    original_arguments: msgspec.Raw | None
    requires_approval: bool
    status: CallStatus
    decided_by: str | None
    decided_at: datetime | None
    reason: str | None
    expires_at: datetime | None
    started_at: datetime | None
    executed_at: datetime | None
    result: msgspec.Raw | None
    error: str | None
    created_at: datetime
    version: int


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks of a call, by whom; payloads as JSON text."""

    action: Action
    by: str
    reason: str | None = None
    arguments: bytes | None = None
    result: bytes | None = None
    error: str | None = None


def after_step(call: ToolCall, request: Request, moment: datetime) -> ToolCall | None:
    """The call as `request` makes it at `moment`; None: it is so already, by the very same decision.

    Raises:
        InsufficientScope: who decides is called like the policy.
        AlreadyDecided: somebody else, or something else, has been decided; it names the winner.
        InvalidTransition: the diagram lacks this step; it names the status and the legal actions.
    """
    if request.action in DECISIONS and request.by == POLICY:
        raise InsufficientScope(NAMED_LIKE_POLICY)
    call = as_of(call, moment)
    decision = decision_of(call)
    if request.action in DECISIONS and decision is not None:
        if _is_same_decision(call, request):
            return None
        raise AlreadyDecided(
            f"Too late: {call.decided_by} has {decision} this tool call.",
            current_status=call.status,
            decision={"status": decision, "decided_by": call.decided_by, "decided_at": call.decided_at},
        )
    target = STEPS.get((call.status, request.action))
    if target is None:
        raise InvalidTransition(
            f"A tool call that is {call.status} cannot {request.action}.",
            current_status=call.status,
            allowed=allowed_actions(call.status),
        )
    return _changed(call, request, target, moment)


def after_message(call: ToolCall, by: str, result: bytes, moment: datetime) -> ToolCall | None:
    """The call as a tool's message with this `result` (JSON text) completes it; None: the call stays as it is.

    A call that ended without a result takes none any more: the message tells of that in words of its own.

    Raises:
        InvalidTransition: it waits for a decision, or has a result or an error already.
    """
    if as_of(call, moment).status in ENDED_WITHOUT_RESULT:
        return None
    return after_step(call, Request(action=Action.COMPLETE, by=by, result=result), moment)


def fault_of_result(result: bytes) -> str | None:
    """Why a result (compact JSON text in UTF-8) is too long; None when it may be stored."""
    if len(result) <= RESULT_CHARACTERS_MAX:  # a character has at least one byte
        return None
    if result.startswith(b'"'):
        is_too_long = len(msgspec.json.decode(result)) > RESULT_CHARACTERS_MAX
        return f"Expected `str` of length <= {RESULT_CHARACTERS_MAX}" if is_too_long else None
    is_too_long = len(result.decode()) > RESULT_CHARACTERS_MAX
    return f"Longer than {RESULT_CHARACTERS_MAX} characters of JSON" if is_too_long else None


def as_of(call: ToolCall, moment: datetime) -> ToolCall:
    """The call at `moment`: one that waited past its time has expired, whether or not a sweep has recorded it."""
    if call.status is CallStatus.PENDING and call.expires_at is not None and call.expires_at <= moment:
        return msgspec.structs.replace(call, status=CallStatus.EXPIRED, version=call.version + 1)
    return call


def decision_of(call: ToolCall) -> CallStatus | None:
    """What was decided about the call, whatever has become of it since; None: nobody has decided."""
    if call.decided_by is None:
        return None
    return CallStatus.REJECTED if call.status is CallStatus.REJECTED else CallStatus.APPROVED


def allowed_actions(status: CallStatus) -> list[Action]:
    """The actions that are legal on a call that is `status`, in the order of the diagram."""
    return [action for (origin, action) in STEPS if origin is status]


def _is_same_decision(call: ToolCall, request: Request) -> bool:
    if (decision_of(call), call.decided_by) != (DECISIONS[request.action], request.by) or call.reason != request.reason:
        return False
    edited = call.arguments if call.original_arguments is not None else None
    return bool((None if edited is None else _value(bytes(edited))) == _value(request.arguments))


def _value(text: bytes | None) -> Any:
    return None if text is None else msgspec.json.encode(parsed(text), order="deterministic")


def _changed(call: ToolCall, request: Request, target: CallStatus, moment: datetime) -> ToolCall:
    fields: dict[str, Any] = {"status": target, "version": call.version + 1}
    match request.action:
        case Action.APPROVE | Action.REJECT:
            fields |= {"decided_by": request.by, "decided_at": moment, "reason": request.reason}
            if request.arguments is not None:
                fields |= {"arguments": msgspec.Raw(request.arguments), "original_arguments": call.arguments}
        case Action.START:
            fields |= {"started_at": moment}
        case Action.COMPLETE:
            fields |= {"executed_at": moment, "result": msgspec.Raw(request.result or b"null")}
        case Action.FAIL:
            fields |= {"executed_at": moment, "error": request.error}
        case Action.CANCEL:
            return cancelled(call, request.reason)
        case _:
            assert_never(request.action)
    return msgspec.structs.replace(call, **fields)


def cancelled(call: ToolCall, why: str | None) -> ToolCall:
    """An open call that is cut off: by somebody, by the end of its session, or because its message is deleted."""
    place = "reason" if decision_of(call) is None else "error"  # the reason of a decision stays with it
    return msgspec.structs.replace(call, status=CallStatus.CANCELLED, version=call.version + 1, **{place: why})


def why_cancelled(call: ToolCall) -> str | None:
    """What was said when a call was cancelled: of one that nobody had decided it is the only reason there is."""
    return call.reason if decision_of(call) is None else call.error


def expired(call: ToolCall) -> ToolCall:
    """A pending call past its time, as the sweep records it: expired, never rejected."""
    return msgspec.structs.replace(call, status=CallStatus.EXPIRED, version=call.version + 1)


def event_of(status: CallStatus) -> EventType:  # noqa: PLR0911 - one for each status
    """The event that tells that a call has become `status`."""
    match status:
        case CallStatus.PENDING:
            return EventType.TOOL_CALL_REQUESTED
        case CallStatus.APPROVED:
            return EventType.TOOL_CALL_APPROVED
        case CallStatus.REJECTED:
            return EventType.TOOL_CALL_REJECTED
        case CallStatus.EXPIRED:
            return EventType.TOOL_CALL_EXPIRED
        case CallStatus.RUNNING:
            return EventType.TOOL_CALL_STARTED
        case CallStatus.COMPLETED:
            return EventType.TOOL_CALL_COMPLETED
        case CallStatus.FAILED:
            return EventType.TOOL_CALL_FAILED
        case CallStatus.CANCELLED:
            return EventType.TOOL_CALL_CANCELLED
        case _:
            assert_never(status)
