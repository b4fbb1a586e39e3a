"""The policy of a session: which tool calls may run, which wait for a person, and which may not."""

from __future__ import annotations

from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from uuid import UUID

import msgspec

from service.domain.session import SessionConfig
from service.domain.tool_call import POLICY, CallStatus, ToolCall, ToolCallDraft


class Verdict(msgspec.Struct, frozen=True):
    """What the session's policy says of a call: its first status, and why."""

    status: CallStatus
    reason: str


def verdict_of(config: SessionConfig, draft: ToolCallDraft) -> Verdict:
    """Blocked before allowed, allowed before approval; what nothing speaks against is approved by the policy."""
    blocked = _match(config.blocked_tools, draft.tool_name)
    if blocked is not None:
        return Verdict(CallStatus.REJECTED, f"blocked_tools has '{blocked}'")
    if config.allowed_tools and _match(config.allowed_tools, draft.tool_name) is None:
        return Verdict(CallStatus.REJECTED, "allowed_tools has no match")
    if draft.requires_approval:
        return Verdict(CallStatus.PENDING, "the request asks for approval")
    approval = _match(config.approval_tools, draft.tool_name)
    if approval is not None:
        return Verdict(CallStatus.PENDING, f"approval_tools has '{approval}'")
    return Verdict(CallStatus.APPROVED, "no approval is needed")


def _match(patterns: list[str], name: str) -> str | None:
    return next((pattern for pattern in patterns if fnmatchcase(name, pattern)), None)


def asked_for(
    id_: UUID, session_id: UUID, message_id: UUID, draft: ToolCallDraft, config: SessionConfig, moment: datetime
) -> ToolCall:
    """The call that a message brings, as the session's policy lets it begin."""
    verdict = verdict_of(config, draft)
    timeout = config.approval_timeout_seconds
    waits = verdict.status is CallStatus.PENDING
    return ToolCall(
        id=id_,
        session_id=session_id,
        message_id=message_id,
        provider_call_id=draft.provider_call_id,
        tool_name=draft.tool_name,
        arguments=msgspec.Raw(msgspec.json.encode(draft.arguments)),
        original_arguments=None,
        requires_approval=waits,
        status=verdict.status,
        decided_by=None if waits else POLICY,
        decided_at=None if waits else moment,
        reason=verdict.reason,
        expires_at=moment + timedelta(seconds=timeout) if waits and timeout is not None else None,
        started_at=None,
        executed_at=None,
        result=None,
        error=None,
        created_at=moment,
        version=1,
    )
