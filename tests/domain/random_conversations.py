"""Conversations as the product can leave them: calls in every status, late results, deleted messages, cut windows."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import strategies as st
from msgspec import UNSET

from service.domain.attachment import Attachment, AttachmentStatus, AttachmentType
from service.domain.message import Message, Role
from service.domain.tool_call import ENDED_WITHOUT_RESULT, CallStatus, ToolCall

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SESSION = UUID(int=1)
FIRST_CALL = UUID(int=3)

PROVIDER_IDS = [
    "call_1", "call_2", "toolu_01", "functions.search:0", "", " ", "é", "a b", "x" * 40, "x" * 41, "call_1\n",
    str(FIRST_CALL), f"{FIRST_CALL}-",
]  # fmt: skip
"""Fit ones, unfit ones, and ones that look like our own."""

STATUSES = st.sampled_from([CallStatus.APPROVED, CallStatus.RUNNING, CallStatus.APPROVED, *CallStatus])
"""More of those that still get a result, so that results come late."""

RUNNABLE = frozenset({CallStatus.APPROVED, CallStatus.RUNNING})

MESSAGES_MAX = 14
LENGTHS = [8, 0, 4]
"""At least so long: what goes wrong with calls takes several messages, and lists grow rarely by themselves."""

ROLES = st.sampled_from([Role.USER, Role.ASSISTANT, Role.ASSISTANT, Role.SYSTEM, Role.TOOL, Role.TOOL])
TOOL_NAMES = ["search", "mail.send", "mail_send", "größe", "x" * 200, "...", "a\nb"]
TEXTS = st.sampled_from(["hello", " ", "\n", "trailing \n", "é😀"]) | st.text(min_size=1, max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["type", "text", "data", "x"]), inner | st.sampled_from(["text", "data"]),
                      max_size=3),
    max_leaves=6,
)  # fmt: skip
FILES = {
    str(UUID(int=900)): "report.pdf",
    str(UUID(int=901)): "a \u2028 b].txt",
    str(UUID(int=902)): "",
}
"""The files of the session by their id; the last one is deleted."""

PARTS = st.lists(
    st.builds(lambda text: {"type": "text", "text": text}, st.text(min_size=1, max_size=5))
    | st.builds(lambda value: {"type": "data", "data": {"x": value}}, VALUES)
    | st.builds(lambda id_: {"type": "attachment", "attachment_id": id_}, st.sampled_from([*FILES])),
    min_size=1,
    max_size=3,
)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def file_of(id_: str) -> Attachment:
    """An attachment as a message shows it; without a name it is the tombstone of a deleted one."""
    return Attachment(
        id=UUID(id_),
        session_id=SESSION,
        message_id=None,
        filename=FILES[id_],
        content_type="text/plain",
        declared_content_type="text/plain",
        size=3,
        sha256="0" * 64,
        attachment_type=AttachmentType.DOCUMENT,
        status=AttachmentStatus.READY,
        error=None,
        properties=raw({}),
        has_text=False,
        has_thumbnail=False,
        metadata=raw({}),
        uploaded_at=NOW,
        processed_at=NOW,
        deleted_at=UNSET if FILES[id_] else NOW,
    )


def call_of(number: int, **fields: Any) -> ToolCall:
    call = ToolCall(
        id=UUID(int=number),
        session_id=SESSION,
        message_id=UUID(int=2),
        provider_call_id=None,
        tool_name="search",
        arguments=raw({}),
        original_arguments=None,
        requires_approval=False,
        status=CallStatus.APPROVED,
        decided_by="policy",
        decided_at=NOW,
        reason=None,
        expires_at=None,
        started_at=None,
        executed_at=None,
        result=None,
        error=None,
        created_at=NOW,
        version=1,
    )
    return msgspec.structs.replace(call, **fields)


def message_of(
    role: Role,
    content: Any,
    calls: list[ToolCall] | None = None,
    tool_call_id: str | None = None,
    *,
    seq: int = 1,
    files: list[str] | None = None,
) -> Message:
    attachments = [file_of(id_) for id_ in files or []]
    return Message(
        UUID(int=1000 + seq), SESSION, seq, role, raw(content), attachments, calls or [], tool_call_id, None, raw({}),
        None, NOW,
    )  # fmt: skip


def calls_in(messages: list[Message]) -> list[ToolCall]:
    return [call for message in messages for call in message.tool_calls]


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """A window of a conversation, oldest first, without tombstones: what `/context` hands to the transcript."""
    said = _said(draw)
    deleted = draw(st.sets(st.sampled_from(range(1, len(said) + 1)), max_size=3)) if said else set()
    kept = [_as_left(message, said, deleted) for message in said if message.seq not in deleted]
    return kept[draw(st.integers(0, len(kept))) :]


def _said(draw: st.DrawFn) -> list[Message]:
    """Everything that was ever said. Results come late and in any order, and many calls never get one."""
    numbers = iter(range(FIRST_CALL.int, 900))
    messages: list[Message] = []
    for role in draw(st.lists(ROLES, min_size=draw(st.sampled_from(LENGTHS)), max_size=MESSAGES_MAX)):
        content = draw(TEXTS | PARTS)
        files = draw(st.lists(st.sampled_from([*FILES]), unique=True, max_size=2))
        if role is Role.TOOL:
            _answer(draw, messages, draw(st.just("") | st.just(content)), files)
            continue
        calls = []
        if role is Role.ASSISTANT:
            calls = [_asked(draw, next(numbers)) for _ in range(draw(st.sampled_from([2, 1, 0, 3])))]
            content = draw(st.just("") | st.just(content)) if calls else content
        messages.append(message_of(role, content, calls, seq=len(messages) + 1, files=files))
    return messages


def _asked(draw: st.DrawFn, number: int) -> ToolCall:
    status = draw(STATUSES)
    completed = status is CallStatus.COMPLETED
    return call_of(
        number,
        provider_call_id=draw(st.none() | st.sampled_from(PROVIDER_IDS)),
        tool_name=draw(st.sampled_from(TOOL_NAMES)),
        arguments=raw(draw(st.dictionaries(st.text(max_size=3), VALUES, max_size=2))),
        status=status,
        result=raw(draw(st.sampled_from(["", " \n", "found "]) | VALUES)) if completed else None,
        error=draw(st.sampled_from(["boom", " "])) if status is CallStatus.FAILED else None,
        reason=draw(st.sampled_from(["because", None])),
    )


def _answer(draw: st.DrawFn, messages: list[Message], content: Any, files: list[str]) -> None:
    """A tool message for a call of any earlier message, where one takes it.

    It completes a call that may run, and changes nothing of one that ended without a result.
    """
    taking = [call for call in calls_in(messages) if call.status in {*RUNNABLE, *ENDED_WITHOUT_RESULT}]
    if not taking:
        return
    chosen = draw(st.sampled_from(taking))
    if chosen.status in RUNNABLE:
        completed = msgspec.structs.replace(chosen, status=CallStatus.COMPLETED, result=raw(content))
        for place, message in enumerate(messages):
            calls = [completed if call.id == chosen.id else call for call in message.tool_calls]
            messages[place] = msgspec.structs.replace(message, tool_calls=calls)
    messages.append(message_of(Role.TOOL, content, None, str(chosen.id), seq=len(messages) + 1, files=files))


def _as_left(message: Message, said: list[Message], deleted: set[int]) -> Message:
    """A message after others were deleted: with a tool's message goes the result that it brought."""
    gone = {other.tool_call_id for other in said if other.seq in deleted and other.role is Role.TOOL}
    calls = [
        msgspec.structs.replace(call, result=None) if str(call.id) in gone else call for call in message.tool_calls
    ]
    return msgspec.structs.replace(message, tool_calls=calls)
