"""What can be done with tool calls: ask for them, decide, run, finish, cut off, expire."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from service.domain.caller import Caller, CallerKind
from service.domain.errors import PayloadTooLarge, SessionNotFound, ToolCallNotFound
from service.domain.event import EXPIRY, Cause, EventType, NewEvent
from service.domain.session import Status, refuse_if_expired
from service.domain.tool_call import CallStatus, Request, ToolCall, after_step, as_of, cancelled, event_of, expired
from service.ids import new_id
from service.store import cut_off_calls, sessions
from service.store import tool_calls as store
from service.store.engine import Tx

FIRST_ID = UUID(int=0)

CUT_OFF_AT_ONCE = 500
"""As many calls take some 20 ms of a web process to be cut off (measured)."""

LARGE_BYTES = 64 * 1024
"""What a step may add to a call without a look at the others of its message. A hundred calls make a page of it."""

CALLS_BYTES_MAX = 8 * 1024 * 1024
"""Of the payloads of one message's calls, where one of them is large: as a page, because a page has whole messages."""


async def act_on_tool_call(
    tx: Tx, caller: Caller, session_id: UUID, call_id: UUID, request: Request, cause: Cause
) -> tuple[ToolCall, bool]:
    """Decide on a call, or take it a step further: one winner among any number of racers.

    Each step gives the session its full time again, as a message does: a tool that runs keeps its session alive.
    The very same decision by the same person changes nothing and is no conflict: then the second value is False.

    Raises:
        SessionNotFound, SessionExpired, ToolCallNotFound.
        AlreadyDecided: it names the decision that won.
        InvalidTransition: it names the status and what is legal now.
    """
    locked = await sessions.lock(tx, caller, session_id)
    if locked is None:
        raise SessionNotFound
    stored = await store.get_stored(tx, session_id, call_id)
    if stored is None:
        raise ToolCallNotFound
    refuse_if_expired(locked.session)
    # The lock's moment is that of the request; whoever waited for it past the deadline is as late as readers saw.
    call = as_of(*stored)
    changed = after_step(call, request, locked.moment)
    if changed is None:
        return call, False
    await save_changed(tx, caller.tenant_id, call, changed, locked.moment, cause, renew=True)
    return changed, True


async def save_changed(
    tx: Tx, tenant_id: str, before: ToolCall, after: ToolCall, moment: datetime, cause: Cause, *, renew: bool = False
) -> None:
    """Store a changed call with its event, under its session's lock; `renew` gives the session its full time again.

    Raises:
        PayloadTooLarge: with this the message's calls would be larger than a page.
    """
    await _refuse_too_large(tx, before, after)
    await store.save(tx, after)
    await sessions.record_children(
        tx,
        tenant_id,
        after.session_id,
        moment=moment,
        pending=_pending([after]) - _pending([before]),
        renew=renew,
        events=[call_event(after)],
        cause=cause,
    )


async def _refuse_too_large(tx: Tx, before: ToolCall, after: ToolCall) -> None:
    added = store.size_of(after) - store.size_of(before)
    if added <= LARGE_BYTES:
        return
    if await store.bytes_of_message(tx, after.session_id, after.message_id) + added > CALLS_BYTES_MAX:
        raise PayloadTooLarge(
            f"The calls of this message would hold more than {CALLS_BYTES_MAX // 2**20} MiB of arguments and results; "
            "put what is large into an attachment."
        )


async def cancel_open_calls(
    tx: Tx,
    tenant_id: str,
    session_id: UUID,
    why: str,
    moment: datetime,
    cause: Cause,
    *,
    message_id: UUID | None = None,
) -> int:
    """Cut off the open calls of a locked session (or of one of its messages), each with its event.

    One that was late before it was cut off has expired, as readers saw it. How many of them waited for a decision.
    They come in batches, so that other requests have their turns between them.
    """
    pending, after_id = 0, FIRST_ID
    while found := await cut_off_calls.open_of_session(tx, session_id, message_id, after_id, CUT_OFF_AT_ONCE):
        cut = [expired(call) if is_late else cancelled(call, why) for call, is_late in found]
        await cut_off_calls.save(tx, session_id, cut)
        waited = _pending([call for call, _ in found])
        await sessions.record_children(
            tx,
            tenant_id,
            session_id,
            moment=moment,
            pending=-waited,
            versions=0,
            events=[call_event(call) for call in cut],
            cause=cause,
        )
        pending, after_id = pending + waited, cut[-1].id
    return pending


async def expire_tool_call(tx: Tx, tenant_id: str, session_id: UUID, call_id: UUID) -> bool:
    """Record that a pending call's time is over: `expired`, never `rejected`; False: somebody was faster.

    In a session whose time is over it is left to the session's own expiry, which comes before it.
    """
    everybody = Caller(tenant_id, EXPIRY.subject, CallerKind.SERVICE, frozenset())
    locked = await sessions.lock(tx, everybody, session_id)
    if locked is None or locked.session.status is Status.ENDED:
        return False
    stored = await store.get_stored(tx, session_id, call_id)
    if stored is None or as_of(stored[0], locked.moment) is stored[0]:
        return False
    call, _ = stored
    await save_changed(tx, tenant_id, call, expired(call), locked.moment, Cause(actor=EXPIRY, request_id=None))
    return True


def call_event(call: ToolCall, type_: EventType | None = None) -> NewEvent:
    """The event that tells what a call has become: thin, without arguments and results."""
    return NewEvent(
        id=new_id(),
        type=type_ or event_of(call.status),
        data={
            "tool_call_id": call.id,
            "message_id": call.message_id,
            "tool_name": call.tool_name,
            "status": call.status,
            "decided_by": call.decided_by,
        },
    )


def _pending(calls: list[ToolCall]) -> int:
    return sum(call.status is CallStatus.PENDING for call in calls)
