"""`/sessions/{id}/messages`: append, page, read, delete."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta

from service.commands import messages as commands
from service.commands.tool_messages import concerns_others
from service.copies import entries
from service.copies.entries import Addition, Spoken
from service.domain import errors
from service.domain.caller import Caller, Scope
from service.domain.errors import InvalidRequest, MessageNotFound, SessionNotFound
from service.domain.message import BATCH_MESSAGES_MAX, Message, MessageDraft, Role, faults_of, faults_of_batch, scope_of
from service.handlers.authentication import caller_of, requires
from service.handlers.bodies import HoldfastRequest
from service.handlers.connecting import reading, searching
from service.handlers.copies import BYPASSED, CACHE_HEADER, newest_page_of
from service.handlers.cursors import (
    PAGE_ROWS_DEFAULT,
    CursorText,
    Limit,
    Page,
    fingerprint,
    page_of,
    read_cursor,
)
from service.handlers.encoding import JSON, encode, respond
from service.handlers.identifiers import identifier
from service.handlers.judging import judged_beforehand
from service.handlers.openapi import CACHED, REFUSALS, SCOPES
from service.handlers.parts import parts_of
from service.handlers.writing import Answer, cause_of, write
from service.store import message_pages
from service.store import messages as store
from service.store.appends import Moved
from service.store.copies import WINDOW_MESSAGES
from service.store.idempotency import About

SEQ_MAX = 2**53
"""No session gets there; every JSON reader can hold it."""

Seq = Annotated[int | None, QueryParameter(ge=0, le=SEQ_MAX)]
SeqPosition = Annotated[int, Meta(ge=0, le=SEQ_MAX)]
"""Where a page ended, as a cursor says it: whoever makes up a cursor gets no further than with `after_seq`."""

NEWEST = (None, None, None, False, None)
"""What a request for the newest messages says beside their number: nothing."""

Flag = Annotated[bool, QueryParameter(description="Show deleted messages as tombstones.")]


class Order(StrEnum):
    """Newest first, or oldest first."""

    DESCENDING = "desc"
    ASCENDING = "asc"


class MessageBatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Messages that are appended together, all or none."""

    messages: Annotated[list[MessageDraft], Meta(min_length=1, max_length=BATCH_MESSAGES_MAX)]


class MessageList(msgspec.Struct, frozen=True):
    """The messages of a batch, in their order."""

    data: list[Message]


APPENDING = [
    SessionNotFound,
    MessageNotFound,
    errors.SessionNotActive,
    errors.SessionExpired,
    errors.MessageLimitExceeded,
    errors.InvalidReference,
    errors.AlreadyDecided,
    errors.InvalidTransition,
    errors.RowsFull,
]
"""`message_not_found` is the replay of an append whose message has been deleted since."""


SPEAKING = {
    Scope.SESSIONS_WRITE: "for messages of the role `user`",
    Scope.SESSIONS_ACT: "for messages of every other role, and so for tool calls and their results",
}
"""What a batch with messages of both kinds needs is both."""


@post(
    "/sessions/{session_id:str}/messages",
    before_request=requires(*SPEAKING),
    status_code=201,
    opt={REFUSALS: APPENDING, SCOPES: SPEAKING},
    operation_id="appendMessage",
)
async def append_message(
    request: HoldfastRequest, session_id: FromPath[str], data: JSONBody[MessageDraft]
) -> Response[Message]:
    """Append a message. Its `seq` follows the one before without a gap, in the order of the commits."""
    caller, wanted = _speaker(request, [data]), identifier(session_id, SessionNotFound)
    _refuse_faults([data], ["body"])
    quota = parts_of(request).row_quota
    await quota.refresh()
    judge = await judged_beforehand(request, wanted, [data])

    async def effect(tx: Any) -> Answer:
        quota.refuse_if_full(caller.tenant_id)
        moved: list[Moved] = []
        (message,) = await commands.append_messages(tx, caller, wanted, [data], cause_of(request), moved.append, judge)
        body = encode(message)
        return Answer(
            status=201,
            body=body,
            headers={"Location": f"/api/v1/sessions/{wanted}/messages/{message.id}"},
            watched=wanted,
            about=About(session_id=wanted, item_ids=shown_by([message])),
            addition=_addition(moved[0], Spoken(message.seq, body)) if moved else None,
        )

    return await write(request, effect, one_statement=not concerns_others([data]))


def _addition(moved: Moved, spoken: Spoken) -> Addition:
    shown = entries.Moved(moved.message_count, moved.version, encode(moved.moment), encode(moved.expires_at))
    return Addition(moved.seq_before, moved.seq_after, shown, spoken)


@post(
    "/sessions/{session_id:str}/messages/batch",
    before_request=requires(*SPEAKING),
    status_code=201,
    opt={REFUSALS: APPENDING, SCOPES: SPEAKING},
    operation_id="appendMessages",
)
async def append_batch(
    request: HoldfastRequest, session_id: FromPath[str], data: JSONBody[MessageBatch]
) -> Response[MessageList]:
    """Append up to 100 messages under consecutive numbers: all of them, or none.

    Together they name at most 200 files, one that several messages name counted for each.
    """
    caller, wanted = _speaker(request, data.messages), identifier(session_id, SessionNotFound)
    _refuse_faults(data.messages, [f"body.messages[{place}]" for place in range(len(data.messages))])
    too_many = faults_of_batch(data.messages, "body.messages")
    if too_many:
        raise InvalidRequest(too_many)
    quota = parts_of(request).row_quota
    await quota.refresh()
    judge = await judged_beforehand(request, wanted, data.messages)

    async def effect(tx: Any) -> Answer:
        quota.refuse_if_full(caller.tenant_id)
        appended = await commands.append_messages(tx, caller, wanted, data.messages, cause_of(request), judge=judge)
        return Answer.of(
            MessageList(appended),
            status=201,
            watched=wanted,
            about=About(session_id=wanted, item_ids=shown_by(appended)),
        )

    return await write(request, effect, one_statement=not concerns_others(data.messages))


def shown_by(messages: list[Message]) -> list[UUID]:
    """The messages and files whose erasure erases an answer that shows these messages."""
    return [id_ for message in messages for id_ in (message.id, *(file.id for file in message.attachments))]


def _speaker(request: HoldfastRequest, drafts: list[MessageDraft]) -> Caller:
    """The caller, who may say all of `drafts`.

    Raises:
        InsufficientScope: naming the scope that is missing.
    """
    caller = caller_of(request)
    for scope in {scope_of(draft.role) for draft in drafts}:
        caller.require(scope)
    return caller


def _refuse_faults(drafts: list[MessageDraft], paths: list[str]) -> None:
    faults = [fault for draft, path in zip(drafts, paths, strict=True) for fault in faults_of(draft, path)]
    if faults:
        raise InvalidRequest(faults)


@get(
    "/sessions/{session_id:str}/messages",
    before_request=requires(Scope.SESSIONS_READ),
    opt={REFUSALS: [SessionNotFound], CACHED: True},
    operation_id="listMessages",
)
async def list_messages(
    request: HoldfastRequest,
    session_id: FromPath[str],
    order: Annotated[Order, QueryParameter(description="`desc`: newest first.")] = Order.DESCENDING,
    after_seq: Seq = None,
    before_seq: Seq = None,
    role: Annotated[Role | None, QueryParameter()] = None,
    include_deleted: Flag = False,
    limit: Limit = PAGE_ROWS_DEFAULT,
    cursor: CursorText = None,
) -> Response[Page[Message]]:
    """Page through a session's messages. A message that is appended meanwhile moves no other to another page."""
    caller, wanted = caller_of(request), identifier(session_id, SessionNotFound)
    after, before = after_seq or 0, SEQ_MAX if before_seq is None else before_seq
    listing = fingerprint("messages", wanted, order, after_seq, before_seq, role, include_deleted)
    if cursor is not None:
        seq = read_cursor(cursor, listing, SeqPosition)
        after, before = (max(after, seq), before) if order is Order.ASCENDING else (after, min(before, seq))
    is_newest = (order, after_seq, before_seq, role, include_deleted, cursor) == (Order.DESCENDING, *NEWEST)
    if is_newest and limit <= WINDOW_MESSAGES and parts_of(request).cache.is_on:
        body, outcome = await newest_page_of(request, wanted, limit, listing)
        return Response(content=body, headers={CACHE_HEADER: outcome.value}, media_type=JSON)  # type: ignore[arg-type]
    async with reading(request) if role is None else searching(request) as tx:
        rows = await message_pages.page(
            tx,
            caller,
            wanted,
            order=order,
            after_seq=after,
            before_seq=before,
            role=role,
            include_deleted=include_deleted,
            limit=limit + 1,
        )
    if rows is None:
        raise SessionNotFound
    page = page_of(rows, limit, listing, lambda message: message.seq)
    return respond(page, headers=BYPASSED)


@get(
    "/sessions/{session_id:str}/messages/{message_id:str}",
    before_request=requires(Scope.SESSIONS_READ),
    opt={REFUSALS: [SessionNotFound, MessageNotFound]},
    operation_id="getMessage",
)
async def get_message(
    request: HoldfastRequest, session_id: FromPath[str], message_id: FromPath[str], include_deleted: Flag = False
) -> Response[Message]:
    """Read one message; a deleted one is 404, or its tombstone with `include_deleted=true`."""
    caller, (wanted, wanted_message) = caller_of(request), _both(session_id, message_id)
    async with reading(request) as tx:
        is_visible, message = await store.get(tx, caller, wanted, wanted_message)
    if not is_visible:
        raise SessionNotFound
    if message is None or (message.deleted_at is not msgspec.UNSET and not include_deleted):
        raise MessageNotFound
    return respond(message)


@delete(
    "/sessions/{session_id:str}/messages/{message_id:str}",
    before_request=requires(*SPEAKING),
    status_code=204,
    opt={REFUSALS: [SessionNotFound, MessageNotFound]},
    operation_id="deleteMessage",
)
async def delete_message(
    request: HoldfastRequest, session_id: FromPath[str], message_id: FromPath[str]
) -> Response[None]:
    """Take a message's content away for good; its `seq` stays taken. Deleting it again changes nothing.

    Text and parts, the arguments and results of its tool calls, and the answers that were kept for an Idempotency-Key
    go with it. It works in every state of the session; after the session's end no event tells of it. What the agent or
    its system prompt said is taken back by credentials that may say it: with `sessions:act`.
    """
    caller, (wanted, wanted_message) = caller_of(request), _both(session_id, message_id)

    async def effect(tx: Any) -> Answer:
        changed = await commands.delete_message(tx, caller, wanted, wanted_message, cause_of(request))
        return Answer(status=204, changed=changed, watched=wanted)

    return await write(request, effect)


def _both(session_id: str, message_id: str) -> tuple[UUID, UUID]:
    return identifier(session_id, SessionNotFound), identifier(message_id, MessageNotFound)


HANDLERS = [append_message, append_batch, list_messages, get_message, delete_message]
