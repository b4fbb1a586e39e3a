"""Messages that bring tool calls, their results or files: several statements under the session's lock, one commit."""

from __future__ import annotations

from uuid import UUID

import msgspec

from service.commands.tool_calls import call_event, save_changed
from service.domain.attachment import Attachment
from service.domain.caller import Caller
from service.domain.errors import InvalidReference, PayloadTooLarge, SessionExpired, SessionNotFound
from service.domain.event import Cause, EventType
from service.domain.message import Message, MessageDraft, Role, attachments_of
from service.domain.policy import Judge, asked_for
from service.domain.session import Status, refusal_of_append
from service.domain.tool_call import ARGUMENTS_BYTES_MAX, CallStatus, ToolCall, after_message
from service.ids import new_id
from service.store import appends, attachments, sessions, tool_calls
from service.store.engine import Tx
from service.store.sessions import Locked


def concerns_others(drafts: list[MessageDraft]) -> bool:
    """Whether any of the drafts touches more than the messages: brings a tool call, completes one, refers to a file."""
    return any(draft.tool_calls or draft.role is Role.TOOL or attachments_of(draft) for draft in drafts)


async def append_tool_messages(
    tx: Tx, caller: Caller, session_id: UUID, drafts: list[MessageDraft], cause: Cause, judge: Judge | None = None
) -> list[Message]:
    """Append all of `drafts` in order, with the calls that they bring or complete and the files they name, or none.

    `judge` has compared their names before the transaction; it is asked if the policy is still the one it judges by.
    A tool message for a call that ended without a result is appended, and the call stays as it is.

    Raises:
        SessionNotFound, SessionExpired, SessionNotActive, MessageLimitExceeded.
        InvalidReference: a `parent_id`, `tool_call_id` or attachment names nothing of this session; `index` says whose.
        AlreadyDecided, InvalidTransition: a result for a call that cannot take one now.
        PayloadTooLarge: a call's arguments are a file.
    """
    locked = await sessions.lock(tx, caller, session_id)
    if locked is None:
        raise SessionNotFound
    refusal = refusal_of_append(locked.session, len(drafts))
    if refusal is not None:
        raise refusal
    if judge is None or not judge.judges_by(locked.session.config):
        judge = Judge(locked.session.config)
    appended = []
    for place, draft in enumerate(drafts):
        try:
            appended.append(await _append_one(tx, caller, locked, judge, draft, cause))
        except InvalidReference as unusable:
            unusable.extras["index"] = place
            raise
    return appended


async def _append_one(
    tx: Tx, caller: Caller, locked: Locked, judge: Judge, draft: MessageDraft, cause: Cause
) -> Message:
    session_id = locked.session.id
    answered = await _answered(tx, caller, locked, draft) if draft.role is Role.TOOL else None
    files = await _files(tx, session_id, attachments_of(draft))
    new = appends.NewMessage(
        id=new_id(),
        event_id=new_id(),
        draft=draft,
        tool_call_id=None if answered is None else answered[0].id,
        attachment_ids=[file.id for file in files],
    )
    appended = await appends.append(tx, caller, session_id, [new], cause)
    if appended is None and draft.parent_id is None:
        # Its time has run out since it was locked.
        raise SessionExpired(current_status=Status.ENDED, ended_at=locked.session.expires_at)
    if appended is None:
        raise InvalidReference(f"The parent_id {draft.parent_id} is not a message of this session.")
    (message,) = appended
    if files:
        await attachments.refer(tx, session_id, message.id, new.attachment_ids)
        message = msgspec.structs.replace(message, attachments=[_referred(file, message.id) for file in files])
    before, after = answered or (None, None)
    if before is not None and after is not None:
        await save_changed(tx, caller.tenant_id, before, after, message.created_at, cause)
    if not draft.tool_calls:
        return message
    calls = [asked_for(new_id(), session_id, message.id, call, judge, message.created_at) for call in draft.tool_calls]
    await _ask(tx, caller, message, calls, cause)
    return msgspec.structs.replace(message, tool_calls=calls)


async def _files(tx: Tx, session_id: UUID, ids: list[UUID]) -> list[Attachment]:
    """The files that a draft names; the session's lock keeps them from being deleted meanwhile."""
    if not ids:
        return []
    found = await attachments.by_ids(tx, session_id, ids)
    for id_ in ids:
        if id_ not in found or found[id_].deleted_at is not msgspec.UNSET:
            raise InvalidReference(f"The attachment {id_} is not a file of this session.")
    return [found[id_] for id_ in ids]


def _referred(file: Attachment, message_id: UUID) -> Attachment:
    return file if file.message_id is not None else msgspec.structs.replace(file, message_id=message_id)


async def _answered(tx: Tx, caller: Caller, locked: Locked, draft: MessageDraft) -> tuple[ToolCall, ToolCall | None]:
    """The call that a tool message names, and what the message makes of it; None: the call stays as it is."""
    name = draft.tool_call_id or ""
    call = await tool_calls.find_for_result(tx, locked.session.id, name, _uuid(name))
    if call is None:
        raise InvalidReference(f"The tool_call_id '{name}' is not a tool call of this session.")
    return call, after_message(call, caller.subject, msgspec.json.encode(draft.content), locked.moment)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


async def _ask(tx: Tx, caller: Caller, message: Message, calls: list[ToolCall], cause: Cause) -> None:
    for call in calls:
        if len(bytes(call.arguments)) > ARGUMENTS_BYTES_MAX:
            raise PayloadTooLarge(f"The arguments of '{call.tool_name}' are larger than {ARGUMENTS_BYTES_MAX} bytes.")
    await tool_calls.add(tx, message.session_id, message.id, calls, message.created_at)
    await sessions.record_children(
        tx,
        caller.tenant_id,
        message.session_id,
        moment=message.created_at,
        pending=sum(call.status is CallStatus.PENDING for call in calls),
        versions=0,
        events=[call_event(call, EventType.TOOL_CALL_REQUESTED) for call in calls],
        cause=cause,
    )
