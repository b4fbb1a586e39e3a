"""What can be done with messages: append them, delete one."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec

from service.commands.sessions import record_end
from service.commands.tool_calls import cancel_open_calls
from service.commands.tool_messages import append_tool_messages, concerns_others
from service.domain.caller import Caller
from service.domain.errors import InvalidReference, MessageNotFound, SessionNotFound, Unavailable
from service.domain.event import Cause, EventType, NewEvent
from service.domain.message import Message, MessageDraft, scope_of
from service.domain.policy import Judge
from service.domain.session import Status, refusal_of_append
from service.domain.tool_call import MESSAGE_DELETED
from service.ids import new_id
from service.store import appends, attachments, idempotency, sessions, tool_calls
from service.store import messages as store
from service.store.engine import Tx

APPEND_ATTEMPTS_MAX = 3
"""The state may change between a refused append and the read that asks why; thrice in a row it does not."""


async def append_messages(
    tx: Tx,
    caller: Caller,
    session_id: UUID,
    drafts: list[MessageDraft],
    cause: Cause,
    on_moved: Callable[[appends.Moved], object] | None = None,
    judge: Judge | None = None,
) -> list[Message]:
    """Append all of `drafts` in order, or none: one statement, and a second one only to name a refusal.

    `on_moved` is told what a single message has moved that concerns nothing else. `judge` has compared the names of
    their tool calls already.

    Raises:
        SessionNotFound, SessionExpired, SessionNotActive, MessageLimitExceeded.
        InvalidReference: a `parent_id`, `tool_call_id` or attachment names nothing of this session.
    """
    if concerns_others(drafts):
        return await append_tool_messages(tx, caller, session_id, drafts, cause, judge)
    new = [appends.NewMessage(id=new_id(), event_id=new_id(), draft=draft) for draft in drafts]
    for _ in range(APPEND_ATTEMPTS_MAX):
        appended = await appends.append(tx, caller, session_id, new, cause, on_moved)
        if appended is not None:
            return appended
        session = await sessions.get(tx, caller, session_id)
        if session is None:
            raise SessionNotFound
        refusal = refusal_of_append(session, len(new))
        if refusal is not None:
            raise refusal
        place = await appends.missing_parent(tx, session_id, new)
        if place is not None:
            raise InvalidReference(
                f"The parent_id {new[place].draft.parent_id} is not a message of this session.", index=place
            )
    raise Unavailable


async def delete_message(tx: Tx, caller: Caller, session_id: UUID, message_id: UUID, cause: Cause) -> bool:
    """Take a message's content away for good and leave a tombstone; deleting it again changes nothing (False).

    In every state of its session. After the end no event tells of it, because nothing follows the end.

    Raises:
        SessionNotFound, MessageNotFound.
        InsufficientScope: naming what it takes to speak in the message's role.
    """
    locked = await sessions.lock(tx, caller, session_id)
    if locked is None:
        raise SessionNotFound
    _, message = await store.get(tx, caller, session_id, message_id)
    if message is None:
        raise MessageNotFound
    caller.require(scope_of(message.role))
    if message.deleted_at is not msgspec.UNSET:
        return False
    await record_end(tx, caller.tenant_id, locked.session)
    pending = await cancel_open_calls(
        tx, caller.tenant_id, session_id, MESSAGE_DELETED, locked.moment, cause, message_id=message_id
    )
    await tool_calls.erase_content(tx, session_id, message_id)
    if message.tool_call_id is not None:
        await tool_calls.erase_result(tx, session_id, UUID(message.tool_call_id))
        await idempotency.erase_item(tx, session_id, UUID(message.tool_call_id))
    await attachments.forget_message(tx, session_id, message_id)
    seq = await store.erase(tx, caller, session_id, message_id, locked.moment)
    await idempotency.erase_item(tx, session_id, message_id)
    event = NewEvent(id=new_id(), type=EventType.MESSAGE_DELETED, data={"message_id": message_id, "message_seq": seq})
    events = [] if locked.session.status is Status.ENDED else [event]
    remaining = msgspec.structs.replace(
        locked.session,
        message_count=locked.session.message_count - 1,
        pending_tool_call_count=locked.session.pending_tool_call_count - pending,
    )
    await sessions.save(tx, caller.tenant_id, remaining, moment=locked.moment, renew=False, events=events, cause=cause)
    return True
