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
from functools import cached_property, lru_cache
from uuid import UUID

import msgspec

from service.domain.name_pattern import NamePatterns
from service.domain.session import SessionConfig
from service.domain.tool_call import POLICY, CallStatus, ToolCall, ToolCallDraft
from service.domain.tool_name import SHOWN_CHARACTERS_MAX, in_fit_characters, shown_name

NOT_WILD = re.compile(r"[^*?]+")
"""The parts of a pattern that stand for themselves."""

COMPILED_MAX = 32
"""Lists of patterns that are kept compiled: those of a dozen sessions that speak at the same time."""


class Verdict(msgspec.Struct, frozen=True):
    """What the session's policy says of a call: its first status, and why."""

    status: CallStatus
    reason: str


POLICY_FIELDS = ("allowed_tools", "blocked_tools", "approval_tools", "approval_timeout_seconds")
"""What of a session's config decides on its tool calls."""

ASKED_BY_THE_REQUEST = Verdict(CallStatus.PENDING, "the request asks for approval")


class Judge:
    """The policy of a session, applied to the calls of one request: each distinct name is compared once.

    What a name costs is bounded by the lengths of the lists and of the name, whatever the patterns look like:
    `NamePatterns` makes one pass over the name for each list (a test counts the steps).
    """

    def __init__(self, config: SessionConfig) -> None:
        self._config = config
        self._verdicts: dict[str, Verdict] = {}

    def judges_by(self, config: SessionConfig) -> bool:
        """Whether `config` has the same policy, so that what was judged holds under it."""
        return all(getattr(config, field) == getattr(self._config, field) for field in POLICY_FIELDS)

    @property
    def approval_timeout_seconds(self) -> int | None:
        """How long a call waits for a decision; None: for as long as its session lives."""
        return self._config.approval_timeout_seconds

    def verdict_of(self, draft: ToolCallDraft) -> Verdict:
        """The verdict on a call; a request can ask for more than the policy does, never for less."""
        verdict = self.judge(draft.tool_name)
        if draft.requires_approval and verdict.status is not CallStatus.REJECTED:
            return ASKED_BY_THE_REQUEST
        return verdict

    def judge(self, name: str) -> Verdict:
        """The verdict on a name, found at the first question."""
        verdict = self._verdicts.get(name)
        if verdict is None:
            verdict = self._verdicts[name] = self._compared(name)
        return verdict

    def _compared(self, name: str) -> Verdict:
        """Blocked before allowed, allowed before approval; what nothing speaks against is approved by the policy."""
        config = self._config
        blocked = _catching(config.blocked_tools, name)
        if blocked is not None:
            return Verdict(CallStatus.REJECTED, f"blocked_tools has '{blocked}'")
        if config.allowed_tools and not self._is_allowed(name):
            return Verdict(CallStatus.REJECTED, "allowed_tools has no match")
        approval = _catching(config.approval_tools, name)
        if approval is not None:
            return Verdict(CallStatus.PENDING, f"approval_tools has '{approval}'")
        return Verdict(CallStatus.APPROVED, "no approval is needed")

    def _is_allowed(self, name: str) -> bool:
        """Whether a pattern matches `name`, or a name of the same length of which `name` is the shown form."""
        is_shown = shown_name(name) == name
        patterns = _as_shown(tuple(self._config.allowed_tools)) if is_shown else self._allowed_as_written
        return next(patterns.matching(name), None) is not None

    @cached_property
    def _allowed_as_written(self) -> NamePatterns:
        return NamePatterns(self._config.allowed_tools)


def _catching(patterns: list[str], name: str) -> str | None:
    """The first pattern that matches a name which a context shows like `name`; what was cut off may be anything."""
    shown = shown_name(name)
    compiled = _as_shown(tuple(patterns))
    found = compiled.matching_longer(shown) if len(shown) == SHOWN_CHARACTERS_MAX else compiled.matching(shown)
    return next((patterns[place] for place in found), None)


@lru_cache(maxsize=COMPILED_MAX)
def _as_shown(patterns: tuple[str, ...]) -> NamePatterns:
    """The patterns with the characters that a context shows in place of theirs."""
    return NamePatterns([NOT_WILD.sub(lambda part: in_fit_characters(part[0]), pattern) for pattern in patterns])


def asked_for(
    id_: UUID, session_id: UUID, message_id: UUID, draft: ToolCallDraft, judge: Judge, moment: datetime
) -> ToolCall:
    """The call that a message brings, as the session's policy lets it begin."""
    verdict = judge.verdict_of(draft)
    timeout = judge.approval_timeout_seconds
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
