"""`/sessions/{id}/tool-calls` and the inbox `/tool-calls`: read, wait, decide, run, finish."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from service.commands import tool_calls as commands
from service.domain import errors
from service.domain.caller import Scope
from service.domain.errors import Fault, InvalidRequest, PayloadTooLarge, SessionNotFound, ToolCallNotFound
from service.domain.share import holder_of
from service.domain.tool_call import (
    ARGUMENTS_BYTES_MAX,
    Action,
    CallStatus,
    ErrorText,
    Reason,
    Request,
    ToolCall,
    fault_of_result,
    scope_of,
)
from service.handlers.authentication import caller_of, requires
from service.handlers.bodies import HoldfastRequest
from service.handlers.connecting import reading, searching
from service.handlers.cursors import (
    PAGE_ROWS_DEFAULT,
    CursorText,
    Limit,
    Page,
    fingerprint,
    page_of,
    read_cursor,
)
from service.handlers.encoding import respond
from service.handlers.head_requests import wants_head_only
from service.handlers.identifiers import identifier
from service.handlers.openapi import REFUSALS, SCOPES
from service.handlers.parts import parts_of
from service.handlers.waiting import WAIT_SECONDS_MAX
from service.handlers.writing import Answer, cause_of, refusals_settled, write
from service.store import inbox
from service.store import tool_calls as store
from service.store.idempotency import About

FIRST_ID = UUID(int=0)
WAITED_FOR = frozenset({CallStatus.PENDING, CallStatus.RUNNING})
"""What `wait` waits out: a decision, and a result. A call that is approved already is news to the agent that asks."""

Text = Annotated[str | None, QueryParameter(max_length=200)]
Statuses = Annotated[list[CallStatus] | None, QueryParameter(name="status", description="Repeatable: any of these.")]


class Act(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to do with a tool call. `arguments` goes with approve (edited ones), `result` with complete, `error` with

    fail, `reason` with approve, reject and cancel. A result is any JSON of at most 100,000 characters: those of a text,
    or of the JSON of anything else.
    """

    action: Action
    reason: Reason | None = None
    arguments: dict[str, Any] | None = None
    result: Any = msgspec.UNSET
    error: ErrorText | None = None


TAKES: dict[Action, frozenset[str]] = {
    Action.APPROVE: frozenset({"reason", "arguments"}),
    Action.REJECT: frozenset({"reason"}),
    Action.START: frozenset(),
    Action.COMPLETE: frozenset({"result"}),
    Action.FAIL: frozenset({"error"}),
    Action.CANCEL: frozenset({"reason"}),
}
"""What each action takes beside itself."""

NEEDS = {Action.COMPLETE: "result", Action.FAIL: "error"}


class Inbox(msgspec.Struct, frozen=True):
    """A page of tool calls across sessions, and how many match in all (counted up to 10,000)."""

    data: list[ToolCall]
    has_more: bool
    next_cursor: str | None
    count: int


ACTING = {
    Scope.TOOL_CALLS_DECIDE: "for approve and reject",
    Scope.SESSIONS_ACT: "for start, complete and fail",
    Scope.SESSIONS_WRITE: "for cancel",
}


@post(
    "/sessions/{session_id:str}/tool-calls/{call_id:str}",
    before_request=requires(*ACTING),
    status_code=200,
    opt={
        REFUSALS: [
            SessionNotFound,
            ToolCallNotFound,
            errors.AlreadyDecided,
            errors.InvalidTransition,
            errors.SessionExpired,
        ],
        SCOPES: ACTING,
    },
    operation_id="actOnToolCall",
)
async def act_on_tool_call(
    request: HoldfastRequest, session_id: FromPath[str], call_id: FromPath[str], data: JSONBody[Act]
) -> Response[ToolCall]:
    """Approve, reject, start, complete, fail or cancel a tool call.

    Of any number of racing decisions exactly one wins; the very same decision by the same person is no conflict.
    Who decided is who called. Each step gives the session its full `timeout_minutes` again.
    """
    caller, (wanted, wanted_call) = caller_of(request), _both(session_id, call_id)
    caller.require(scope_of(data.action))
    asked = _asked(data, caller.subject)

    async def effect(tx: Any) -> Answer:
        call, changed = await commands.act_on_tool_call(tx, caller, wanted, wanted_call, asked, cause_of(request))
        return Answer.of(
            call,
            status=200,
            changed=changed,
            watched=wanted,
            about=About(session_id=wanted, item_ids=[call.message_id, call.id]),
        )

    return await write(request, effect)


def _asked(data: Act, by: str) -> Request:
    """The request that the body makes.

    Raises:
        InvalidRequest: it holds what this action does not take, lacks what it needs, or its result is too long.
        PayloadTooLarge: the edited arguments are a file.
    """
    given = {
        name
        for name, absent in (("reason", None), ("arguments", None), ("result", msgspec.UNSET), ("error", None))
        if getattr(data, name) is not absent
    }
    faults = [Fault(f"body.{name}", f"Not taken by '{data.action}'") for name in sorted(given - TAKES[data.action])]
    needed = NEEDS.get(data.action)
    if needed is not None and needed not in given:
        faults.append(Fault(f"body.{needed}", "Required"))
    result = None if data.result is msgspec.UNSET else msgspec.json.encode(data.result)
    too_long = None if result is None else fault_of_result(result)
    if too_long is not None:
        faults.append(Fault("body.result", too_long))
    if faults:
        raise InvalidRequest(faults)
    arguments = None if data.arguments is None else msgspec.json.encode(data.arguments)
    if arguments is not None and len(arguments) > ARGUMENTS_BYTES_MAX:
        raise PayloadTooLarge(f"The arguments are larger than {ARGUMENTS_BYTES_MAX} bytes.")
    return Request(
        action=data.action,
        by=by,
        reason=data.reason,
        arguments=arguments,
        result=result,
        error=data.error,
    )


def _both(session_id: str, call_id: str) -> tuple[UUID, UUID]:
    return identifier(session_id, SessionNotFound), identifier(call_id, ToolCallNotFound)


@get(
    "/sessions/{session_id:str}/tool-calls/{call_id:str}",
    before_request=requires(Scope.SESSIONS_READ),
    opt={REFUSALS: [SessionNotFound, ToolCallNotFound, errors.TooManyWaits]},
    operation_id="getToolCall",
)
async def get_tool_call(
    request: HoldfastRequest,
    session_id: FromPath[str],
    call_id: FromPath[str],
    wait: Annotated[
        int, QueryParameter(ge=0, le=WAIT_SECONDS_MAX, description="Seconds to wait for a decision or a result.")
    ] = 0,
) -> Response[ToolCall]:
    """Read a tool call. With `wait`, the answer comes when a pending or running call changes, or after the wait.

    It comes early, with the call as it is, when the process that you wait at stops: ask again. HEAD does not wait.
    """
    wait = 0 if wants_head_only(request) else wait
    wanted, wanted_call = _both(session_id, call_id)
    caller = caller_of(request)
    seq, call = await _read(request, wanted, wanted_call)
    if wait and call.status in WAITED_FOR:
        await parts_of(request).watch.changed(wanted_call, call.status, wait, holder_of(caller))
        async with refusals_settled(request):
            seq, call = await _read(request, wanted, wanted_call)
    if wait and call.status is not CallStatus.PENDING:  # who waits is told of a decision or a result
        await parts_of(request).cache.outdate([(caller.tenant_id, wanted, seq)])
    return respond(call)


async def _read(request: HoldfastRequest, session_id: UUID, call_id: UUID) -> tuple[int, ToolCall]:
    """The call, and the number of the last event that its session had then."""
    async with reading(request) as tx:
        seq, call = await store.get(tx, caller_of(request), session_id, call_id)
    if seq is None:
        raise SessionNotFound
    if call is None:
        raise ToolCallNotFound
    return seq, call


@get(
    "/sessions/{session_id:str}/tool-calls",
    before_request=requires(Scope.SESSIONS_READ),
    opt={REFUSALS: [SessionNotFound]},
    operation_id="listToolCalls",
)
async def list_tool_calls(
    request: HoldfastRequest,
    session_id: FromPath[str],
    statuses: Statuses = None,
    tool_name: Text = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    cursor: CursorText = None,
) -> Response[Page[ToolCall]]:
    """Page through a session's tool calls, oldest first."""
    caller, wanted = caller_of(request), identifier(session_id, SessionNotFound)
    listing = fingerprint("tool-calls", wanted, statuses, tool_name)
    after_id = FIRST_ID if cursor is None else read_cursor(cursor, listing, UUID)
    is_filtered = statuses is not None or tool_name is not None
    async with searching(request) if is_filtered else reading(request) as tx:
        rows = await store.page_of_session(
            tx, caller, wanted, statuses=statuses, tool_name=tool_name, after_id=after_id, limit=limit + 1
        )
    if rows is None:
        raise SessionNotFound
    return respond(page_of(rows, limit, listing, lambda call: call.id))


@get("/tool-calls", before_request=requires(Scope.SESSIONS_READ), operation_id="listInbox")
async def list_inbox(
    request: HoldfastRequest,
    statuses: Statuses = None,
    tool_name: Text = None,
    agent_id: Text = None,
    user_id: Text = None,
    limit: Limit = PAGE_ROWS_DEFAULT,
    cursor: CursorText = None,
) -> Response[Inbox]:
    """List the tool calls of all sessions that you may see, newest first: with `status=pending`, what waits for you."""
    caller = caller_of(request)
    filters = inbox.Filters(statuses=tuple(statuses or ()), tool_name=tool_name, agent_id=agent_id, user_id=user_id)
    listing = fingerprint("inbox", caller.tenant_id, caller.sees_user, filters)
    before_id = None if cursor is None else read_cursor(cursor, listing, UUID)
    async with searching(request) as tx:
        rows, count = await inbox.page(tx, caller, filters, before_id=before_id, limit=limit + 1)
    page = page_of(rows, limit, listing, lambda call: call.id)
    return respond(Inbox(page.data, page.has_more, page.next_cursor, count))


HANDLERS = [act_on_tool_call, get_tool_call, list_tool_calls, list_inbox]
