"""A change of a policy that counts as tightening lets no call through, whatever its name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.domain.caller import Caller, CallerKind, Scope
from service.domain.errors import InsufficientScope
from service.domain.loosening import SHOWN_BYTES_MAX, changed_fields, loosened, policy_sides, refuse_loosening
from service.domain.policy import Judge
from service.domain.session import PATTERN_CHARACTERS_MAX, PATTERNS_MAX, SessionConfig
from service.domain.tool_call import CallStatus, ToolCallDraft

STRICTNESS = {CallStatus.APPROVED: 0, CallStatus.PENDING: 1, CallStatus.REJECTED: 2}
LETTERS = "ab._*?"
PATTERN = st.sampled_from(["a", "b", "a*", "*b", "a.b", "a_b", "?", "*"]) | st.text(LETTERS, min_size=1, max_size=3)
PATTERNS = st.lists(PATTERN, max_size=3)
NAME = st.text("ab._", min_size=1, max_size=4) | st.sampled_from(["a" * 64, "a" * 63 + ".b", "a.b", "a_b"])
POLICIES = st.builds(SessionConfig, allowed_tools=PATTERNS, blocked_tools=PATTERNS, approval_tools=PATTERNS)
WORST = ["*a" * 30 + f"{place:04}" for place in range(PATTERNS_MAX)]


def caller_with(*scopes: Scope) -> Caller:
    return Caller(tenant_id="t", subject="agent", kind=CallerKind.SERVICE, scopes=frozenset(scopes))


@st.composite
def changes(draw: st.DrawFn) -> tuple[SessionConfig, SessionConfig]:
    """A policy before and after: often a few patterns more or less, or moved to another list, else any other one."""
    before = draw(POLICIES)
    if draw(st.booleans()):
        return before, draw(POLICIES)
    lists = {name: list(getattr(before, name)) for name in ("allowed_tools", "blocked_tools", "approval_tools")}
    for _ in range(draw(st.integers(1, 3))):
        name, pattern = draw(st.sampled_from(sorted(lists))), draw(PATTERN)
        if lists[name] and draw(st.booleans()):
            taken = lists[name].pop(draw(st.integers(0, len(lists[name]) - 1)))
            if draw(st.booleans()):
                lists[draw(st.sampled_from(sorted(lists)))].append(taken)
        else:
            lists[name].append(pattern)
    return before, SessionConfig(**lists)


@given(changes(), NAME, st.booleans())
@example(change=(SessionConfig(approval_tools=["a"]), SessionConfig(blocked_tools=["a"])), name="a", asks=False)
@example(change=(SessionConfig(allowed_tools=["a"]), SessionConfig()), name="b", asks=False)
@example(change=(SessionConfig(blocked_tools=["a"]), SessionConfig(approval_tools=["a"])), name="a", asks=False)
def test_what_counts_as_tightening_is_no_less_strict_for_any_name(
    change: tuple[SessionConfig, SessionConfig], name: str, asks: bool
):
    before, after = change
    draft = ToolCallDraft(tool_name=name, requires_approval=asks)

    strictness = [STRICTNESS[Judge(config).verdict_of(draft).status] for config in change]

    assert loosened(before, after) or strictness[0] <= strictness[1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"blocked_tools": ["a"]}),
        ({}, {"approval_tools": ["a"]}),
        ({}, {"allowed_tools": ["a"]}),
        ({"allowed_tools": ["a", "b"]}, {"allowed_tools": ["b"]}),
        ({"blocked_tools": ["a"]}, {"blocked_tools": ["b", "a", "a"]}),
        ({"blocked_tools": ["a", "b"]}, {"blocked_tools": ["b", "a"]}),
        ({"approval_tools": ["a"]}, {"approval_tools": ["b", "a"]}),
        ({"approval_tools": ["a", "b"]}, {"approval_tools": ["b"], "blocked_tools": ["a"]}),
        ({"approval_timeout_seconds": None}, {"approval_timeout_seconds": 5}),
        ({"approval_timeout_seconds": 5}, {"approval_timeout_seconds": 4}),
        ({"max_messages": 5}, {"max_messages": 6, "system_prompt_override": "x"}),
    ],
)
def test_tightening_is_known_as_such(before: dict[str, Any], after: dict[str, Any]):
    assert loosened(SessionConfig(**before), SessionConfig(**after)) == []


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        ({"blocked_tools": ["a"]}, {}, ["blocked_tools"]),
        ({"blocked_tools": ["a*"]}, {"blocked_tools": ["ab*"]}, ["blocked_tools"]),
        ({"blocked_tools": ["a"]}, {"approval_tools": ["a"]}, ["blocked_tools"]),
        ({"approval_tools": ["a"]}, {}, ["approval_tools"]),
        ({"approval_tools": ["a"]}, {"allowed_tools": ["a"]}, ["approval_tools"]),
        ({"allowed_tools": ["a"]}, {}, ["allowed_tools"]),
        ({"allowed_tools": ["a"]}, {"allowed_tools": ["a", "b"]}, ["allowed_tools"]),
        ({"allowed_tools": ["a"]}, {"allowed_tools": ["b"]}, ["allowed_tools"]),
        ({"approval_timeout_seconds": 5}, {"approval_timeout_seconds": 6}, ["approval_timeout_seconds"]),
        ({"approval_timeout_seconds": 5}, {}, ["approval_timeout_seconds"]),
        ({"blocked_tools": ["a"], "approval_tools": ["b"]}, {}, ["blocked_tools", "approval_tools"]),
    ],
)
def test_loosening_is_refused_by_the_names_of_its_fields_to_who_may_not_decide(
    before: dict[str, Any], after: dict[str, Any], fields: list[str]
):
    change = SessionConfig(**before), SessionConfig(**after)

    assert loosened(*change) == fields
    with pytest.raises(InsufficientScope) as refused:
        refuse_loosening(caller_with(Scope.SESSIONS_ACT, Scope.SESSIONS_WRITE), *change)
    assert all(f"'{field}'" in refused.value.detail for field in fields)
    assert refused.value.extras == {"required_scope": Scope.TOOL_CALLS_DECIDE}
    for scope in (Scope.TOOL_CALLS_DECIDE, Scope.ADMIN):
        refuse_loosening(caller_with(scope), *change)
    refuse_loosening(caller_with(), change[0], change[0])


def test_an_event_tells_the_policys_fields_that_changed_on_both_sides():
    before = SessionConfig(blocked_tools=["a"], approval_timeout_seconds=5, max_messages=7)
    after = SessionConfig(blocked_tools=["a", "b"], max_messages=8)

    assert changed_fields(before, after) == ["max_messages", "approval_timeout_seconds", "blocked_tools"]
    assert msgspec.to_builtins(policy_sides(before, after)) == {
        "blocked_tools": {"before": ["a"], "after": ["a", "b"]},
        "approval_timeout_seconds": {"before": 5, "after": None},
    }
    assert policy_sides(before, before) == {}


@pytest.mark.parametrize("letter", ["a", "é", "😀"])
def test_an_event_shows_of_a_large_list_first_what_the_other_side_lacks(letter: str):
    kept = [f"{place:02}" + letter * (PATTERN_CHARACTERS_MAX - 2) for place in range(PATTERNS_MAX - 1)]
    before, after = SessionConfig(blocked_tools=[*kept, "gone"]), SessionConfig(blocked_tools=[*kept, "new"])

    sides = policy_sides(before, after)["blocked_tools"]

    assert (sides.before[0], sides.after[0]) == ("gone", "new")
    assert sides.left_out == 2 * PATTERNS_MAX - len(sides.before) - len(sides.after) > 0
    for side in (sides.before, sides.after):
        assert len(msgspec.json.encode(side)) <= SHOWN_BYTES_MAX + 1
        assert set(side[1:]) <= set(kept)
