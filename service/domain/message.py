"""Messages: what may be said, and by whom."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, assert_never
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from service.domain.attachment import ATTACHMENTS_PER_MESSAGE_MAX, Attachment
from service.domain.caller import Scope
from service.domain.errors import Fault
from service.domain.session import METADATA_BYTES_MAX, Metadata
from service.domain.tool_call import (
    CALLS_PER_MESSAGE_MAX,
    RESULT_CHARACTERS_MAX,
    ProviderCallId,
    ToolCall,
    ToolCallDraft,
    fault_of_result,
)

BATCH_MESSAGES_MAX = 100
"""One batch is one statement under one lock: long enough for an import, short enough not to starve other writers."""

PARTS_MAX = 100
"""More parts than any provider's message format takes."""

BATCH_FILES_MAX = 2 * ATTACHMENTS_PER_MESSAGE_MAX
"""As many as one message may name, by its parts and beside them. An answer shows each at each place, 4 MB in all."""

TEXT_CHARACTERS_MAX = RESULT_CHARACTERS_MAX
"""A tool's text is the result of its call, so both have one limit."""

NULL_ALONE = "Expected `str | array`, got `null`, which is taken only beside `tool_calls`"

Text = Annotated[str, Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX)]
TokenCount = Annotated[int, Meta(ge=0, le=2**53)]
Cost = Annotated[float, Meta(ge=0)]


class Role(StrEnum):
    """Who speaks."""

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    TOOL = "tool"


class TextPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="text"):
    """Words."""

    text: Text


class AttachmentPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="attachment"):
    """A file of this session."""

    attachment_id: UUID


class DataPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="data"):
    """Any JSON object; it comes back equal to what was sent."""

    data: dict[str, Any]


Part = TextPart | AttachmentPart | DataPart
ContentText = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]
Content = ContentText | Annotated[list[Part], Meta(min_length=1, max_length=PARTS_MAX)]


class Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a model's answer cost: tokens read and written, and money in the caller's own currency."""

    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    cost: Cost | None = None


class MessageDraft(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A message as a caller sends it.

    `content`: null only beside `tool_calls`, as OpenAI answers it; it is the empty string then. `attachment_ids`: files
    of the session that belong to it; those that its parts name belong to it anyway. `tool_calls`: what an assistant
    asks to run. `tool_call_id`: which call a tool message completes, by our id or the provider's; a call that was
    rejected, cancelled or has expired stays as it is, and a context shows the message as its result. The content of a
    tool message is a result: at most 100,000 characters, counted in a text, or in the JSON of a list of parts.
    """

    content: Content | None
    role: Role = Role.USER
    parent_id: UUID | None = None
    metadata: Metadata = {}
    usage: Usage | None = None
    attachment_ids: Annotated[list[UUID], Meta(max_length=ATTACHMENTS_PER_MESSAGE_MAX)] = []
    tool_calls: Annotated[list[ToolCallDraft], Meta(max_length=CALLS_PER_MESSAGE_MAX)] = []
    tool_call_id: ProviderCallId | None = None

    def __post_init__(self) -> None:
        """Give a message that only calls tools the one spelling in which it is stored and answered."""
        if self.content is None and self.tool_calls:
            msgspec.structs.force_setattr(self, "content", "")


class Message(msgspec.Struct, frozen=True):
    """A message as it stands in its session. A deleted one is a tombstone: no content, and `deleted_at`."""

    id: UUID
    session_id: UUID
    seq: int
    role: Role
    content: msgspec.Raw
    attachments: list[Attachment]
    tool_calls: list[ToolCall]
    tool_call_id: str | None
    parent_id: UUID | None
    metadata: msgspec.Raw
    usage: msgspec.Raw | None
    created_at: datetime
    deleted_at: datetime | UnsetType = UNSET


def scope_of(role: Role) -> Scope:
    """The scope that it takes to say something in this role, or to take it back.

    Tool calls come with the role `assistant`, results with `tool`.
    """
    match role:
        case Role.USER:
            return Scope.SESSIONS_WRITE
        case Role.ASSISTANT | Role.SYSTEM | Role.TOOL:
            return Scope.SESSIONS_ACT
        case _:
            assert_never(role)


def attachments_of(draft: MessageDraft) -> list[UUID]:
    """The files that a draft refers to, by its parts or beside them: each once, parts first."""
    parts = draft.content if isinstance(draft.content, list) else []
    named = [part.attachment_id for part in parts if isinstance(part, AttachmentPart)]
    return list(dict.fromkeys([*named, *draft.attachment_ids]))


def faults_of_batch(drafts: list[MessageDraft], path: str) -> list[Fault]:
    """What a batch holds too much of, where each draft by itself holds what it may; `path` is where the list stands."""
    named = 0
    for place, draft in enumerate(drafts):
        named += len(attachments_of(draft))
        if named > BATCH_FILES_MAX:
            what = (
                f"Together with those before it names more than {BATCH_FILES_MAX} files; send it in a batch of its own"
            )
            return [Fault(f"{path}[{place}]", what)]
    return []


def faults_of(draft: MessageDraft, path: str) -> list[Fault]:
    """What a draft holds that its types cannot forbid; `path` is where the draft stands in the body."""
    faults = []
    if draft.tool_calls and draft.role is not Role.ASSISTANT:
        faults.append(Fault(f"{path}.tool_calls", "Only messages of the role 'assistant' bring tool calls"))
    if draft.tool_call_id is not None and draft.role is not Role.TOOL:
        faults.append(Fault(f"{path}.tool_call_id", "Only messages of the role 'tool' complete a tool call"))
    if draft.tool_call_id is None and draft.role is Role.TOOL:
        faults.append(Fault(f"{path}.tool_call_id", "Required for messages of the role 'tool'"))
    too_long = fault_of_result(msgspec.json.encode(draft.content)) if draft.role is Role.TOOL else None
    if too_long is not None:
        faults.append(Fault(f"{path}.content", too_long))
    if draft.content is None:
        faults.append(
            Fault(f"{path}.content", "Expected `str | array`, got `null`, which is taken beside `tool_calls`")
        )
    if draft.content == "" and not draft.tool_calls and draft.role is not Role.TOOL:
        faults.append(Fault(f"{path}.content", "Expected `str` of length >= 1"))
    if draft.metadata and len(msgspec.json.encode(draft.metadata)) > METADATA_BYTES_MAX:
        faults.append(Fault(f"{path}.metadata", f"Larger than {METADATA_BYTES_MAX} bytes of JSON"))
    return faults
