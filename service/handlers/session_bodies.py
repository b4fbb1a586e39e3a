"""What is sent to open a session and to change one."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from service.domain.session import (
    AgentId,
    ApprovalTimeoutSeconds,
    ConfigDraft,
    ExternalId,
    MaxAttachments,
    MaxAttachmentSize,
    MaxMessages,
    Metadata,
    SystemPrompt,
    Tags,
    TimeoutMinutes,
    Title,
    ToolPatterns,
    UserId,
)


class IfExists(StrEnum):
    """What to do when the `external_id` is taken."""

    ERROR = "error"
    RETURN = "return"


class CreateSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new session. `user_id` is for service keys; a user's sessions are its own."""

    agent_id: AgentId
    user_id: UserId | None = None
    title: Title | None = None
    external_id: ExternalId | None = None
    if_exists: IfExists = IfExists.ERROR
    config: ConfigDraft = ConfigDraft()
    system_prompt: SystemPrompt | None = None
    metadata: Metadata = {}
    tags: Tags = []
    activate: bool = False


class ConfigPatch(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A merge patch of a config: absent keeps, null goes back to the default."""

    max_messages: MaxMessages | UnsetType | None = UNSET
    max_attachments: MaxAttachments | UnsetType | None = UNSET
    max_attachment_size: MaxAttachmentSize | UnsetType | None = UNSET
    timeout_minutes: TimeoutMinutes | UnsetType | None = UNSET
    approval_timeout_seconds: ApprovalTimeoutSeconds | UnsetType | None = UNSET
    allowed_tools: ToolPatterns | UnsetType | None = UNSET
    blocked_tools: ToolPatterns | UnsetType | None = UNSET
    approval_tools: ToolPatterns | UnsetType | None = UNSET
    enable_code_interpreter: bool | UnsetType | None = UNSET
    enable_mcp_tools: bool | UnsetType | None = UNSET
    enable_file_search: bool | UnsetType | None = UNSET
    system_prompt_override: SystemPrompt | UnsetType | None = UNSET


class ChangeSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A JSON merge patch (RFC 7396): absent keeps, null deletes, `metadata` merges key by key."""

    title: Title | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET
    tags: Tags | UnsetType | None = UNSET
    config: ConfigPatch | UnsetType | None = UNSET


def patch_of(patch_: ConfigPatch | None) -> dict[str, Any]:
    """The merge patch of a config, as plain values; null resets every field."""
    if patch_ is None:
        return dict.fromkeys(field.name for field in msgspec.structs.fields(ConfigPatch))
    patched: dict[str, Any] = msgspec.to_builtins(patch_)
    return patched
