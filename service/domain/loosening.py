"""Whether a change of a session's policy lets a tool call through that would not have got through before."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from service.domain.caller import Caller, Scope
from service.domain.errors import AlreadyExists, InsufficientScope
from service.domain.policy import POLICY_FIELDS
from service.domain.session import Session, SessionConfig

SHOWN_BYTES_MAX = 2048
"""What an event shows of a list: fifty patterns of forty characters. So no event is larger than 13 KB for its lists."""


class Sides(msgspec.Struct, frozen=True, omit_defaults=True):
    """A field of the policy before and after a change.

    A list that is larger than `SHOWN_BYTES_MAX` of JSON is shown in part: first what the other side lacks, then the
    rest. `left_out`: how many patterns of both sides are not shown.
    """

    before: Any
    after: Any
    left_out: int = 0


def loosened(before: SessionConfig, after: SessionConfig) -> list[str]:
    """The fields whose change may let a call through that did not get through before; none: it is no less strict.

    A policy is as strict if for every name its verdict is, in the order rejected, pending, approved. What patterns
    match together is not reckoned out; what cannot be seen from the lists counts as loosening:

    - `blocked_tools` may only grow;
    - `approval_tools` may only grow, and a pattern may move from there into `blocked_tools`;
    - `allowed_tools` may only shrink, but not to nothing, because an empty list allows all. From empty to anything is
      stricter;
    - `approval_timeout_seconds` may only become shorter: a longer time, or none, leaves a call open for longer to a
      decision that was to be off by then. It holds for the calls that are asked for from then on.

    The order of a list and repeated patterns decide nothing.
    """
    is_looser = {
        "allowed_tools": _widens(before.allowed_tools, after.allowed_tools),
        "blocked_tools": not set(before.blocked_tools) <= set(after.blocked_tools),
        "approval_tools": not set(before.approval_tools) <= {*after.approval_tools, *after.blocked_tools},
        "approval_timeout_seconds": _lasts_longer(before.approval_timeout_seconds, after.approval_timeout_seconds),
    }
    return [field for field in POLICY_FIELDS if is_looser[field]]


def _widens(before: list[str], after: list[str]) -> bool:
    return bool(before) and (not after or not set(after) <= set(before))


def _lasts_longer(before: int | None, after: int | None) -> bool:
    return before is not None and (after is None or after > before)


def refuse_loosening(caller: Caller, before: SessionConfig, after: SessionConfig) -> None:
    """Refuse to loosen the policy of a standing session to credentials that may not decide on its calls.

    Raises:
        InsufficientScope: naming the fields.
    """
    fields = loosened(before, after)
    if not fields or caller.holds(Scope.TOOL_CALLS_DECIDE):
        return
    named = " and ".join(f"'{field}'" for field in fields)
    raise InsufficientScope(
        f"This change loosens {named}; for a standing session that takes the scope '{Scope.TOOL_CALLS_DECIDE}'.",
        required_scope=Scope.TOOL_CALLS_DECIDE,
    )


def refuse_looser(asked: SessionConfig, standing: Session) -> None:
    """Refuse to hand out a standing session in place of one with a stricter policy.

    A user may open a session before a service does, without the policy that only the service may set.

    Raises:
        AlreadyExists: naming the fields.
    """
    looser = loosened(asked, standing.config)
    if looser:
        named = " and ".join(f"'{field}'" for field in looser)
        raise AlreadyExists(
            f"A session of this user with this external_id exists already, and its {named} would let tool calls "
            "through that this request would not: make it as strict first (PATCH), or end it.",
            external_id=standing.external_id,
        )


def changed_fields(before: SessionConfig, after: SessionConfig) -> list[str]:
    """The fields of a config that differ, in its order."""
    return [field for field in SessionConfig.__struct_fields__ if getattr(before, field) != getattr(after, field)]


def policy_sides(before: SessionConfig, after: SessionConfig) -> dict[str, Sides]:
    """Each field of the policy that differs, before and after, as an event tells it."""
    return {
        field: _sides(getattr(before, field), getattr(after, field))
        for field in POLICY_FIELDS
        if getattr(before, field) != getattr(after, field)
    }


def _sides(before: Any, after: Any) -> Sides:
    if not isinstance(before, list):
        return Sides(before, after)
    shown = _shown(before, after), _shown(after, before)
    return Sides(*shown, left_out=len(before) + len(after) - sum(map(len, shown)))


def _shown(patterns: list[str], other_side: list[str]) -> list[str]:
    if len(msgspec.json.encode(patterns)) <= SHOWN_BYTES_MAX:
        return patterns
    there = set(other_side)
    return _fitting(sorted(patterns, key=lambda pattern: pattern in there))


def _fitting(patterns: Iterable[str]) -> list[str]:
    fitting: list[str] = []
    room = SHOWN_BYTES_MAX
    for pattern in patterns:
        room -= len(msgspec.json.encode(pattern)) + 1
        if room < 0:
            break
        fitting.append(pattern)
    return fitting
