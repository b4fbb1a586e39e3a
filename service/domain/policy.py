"""The policy of a session: which tool calls may run, which wait for a person, and which may not.

A context shows names in a form that providers take (`mail.send` as `mail_send`), and a model calls tools by what it was
shown. So a pattern is compared with every name that a context shows in the same form:

- a pattern of `blocked_tools` or `approval_tools` catches a name if it matches any of them. So names that are shown
  alike are caught alike, and none escapes by being shown, nor by being mapped back;
- a pattern of `allowed_tools` takes a name that it matches itself, and one that is the shown form, not cut, of a name
  that it matches.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID

import msgspec

from service.domain.name_pattern import NamePatterns
from service.domain.session import SessionConfig
from service.domain.tool_call import POLICY, CallStatus, ToolCall, ToolCallDraft
from service.domain.tool_name import SHOWN_CHARACTERS_MAX, in_fit_characters, shown_name

NOT_WILD = re.compile(r"[^*?]+")
"""The parts of a pattern that stand for themselves."""

COMPILED_MAX = 32
"""Lists of patterns that are kept compiled: they serve the calls of one request, which has three lists."""


class Verdict(msgspec.Struct, frozen=True):
    """What the session's policy says of a call: its first status, and why."""

    status: CallStatus
    reason: str


def verdict_of(config: SessionConfig, draft: ToolCallDraft) -> Verdict:
    """Blocked before allowed, allowed before approval; what nothing speaks against is approved by the policy."""
    blocked = _catching(config.blocked_tools, draft.tool_name)
    if blocked is not None:
        return Verdict(CallStatus.REJECTED, f"blocked_tools has '{blocked}'")
    if config.allowed_tools and not _is_allowed(config.allowed_tools, draft.tool_name):
        return Verdict(CallStatus.REJECTED, "allowed_tools has no match")
    if draft.requires_approval:
        return Verdict(CallStatus.PENDING, "the request asks for approval")
    approval = _catching(config.approval_tools, draft.tool_name)
    if approval is not None:
        return Verdict(CallStatus.PENDING, f"approval_tools has '{approval}'")
    return Verdict(CallStatus.APPROVED, "no approval is needed")


def _catching(patterns: list[str], name: str) -> str | None:
    """The first pattern that matches a name which a context shows like `name`; what was cut off may be anything."""
    shown = shown_name(name)
    compiled = _as_shown(tuple(patterns))
    found = compiled.matching_longer(shown) if len(shown) == SHOWN_CHARACTERS_MAX else compiled.matching(shown)
    return next((patterns[place] for place in found), None)


def _is_allowed(patterns: list[str], name: str) -> bool:
    """Whether a pattern matches `name`, or a name of the same length of which `name` is the shown form."""
    found = [patterns[place] for place in _as_shown(tuple(patterns)).matching(in_fit_characters(name))]
    if found and shown_name(name) == name:
        return True
    return next(NamePatterns(found).matching(name), None) is not None


@lru_cache(maxsize=COMPILED_MAX)
def _as_shown(patterns: tuple[str, ...]) -> NamePatterns:
    """The patterns with the characters that a context shows in place of theirs."""
    return NamePatterns([NOT_WILD.sub(lambda part: in_fit_characters(part[0]), pattern) for pattern in patterns])


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
