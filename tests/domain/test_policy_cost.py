"""What the policy costs is bounded, whatever the patterns and names: counted in steps, which no machine changes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from service.domain import name_pattern
from service.domain.policy import Judge
from service.domain.session import PATTERN_CHARACTERS_MAX, PATTERNS_MAX, SessionConfig
from service.domain.tool_call import CALLS_PER_MESSAGE_MAX, ToolCallDraft
from service.domain.tool_name import SHOWN_CHARACTERS_MAX

NAME_CHARACTERS_MAX = 200
LINES_PER_CHARACTER = 4
"""Of `NamePatterns._after`: the loop's head, and three in it."""

CHARACTERS_PER_NAME_MAX = 2 * SHOWN_CHARACTERS_MAX + NAME_CHARACTERS_MAX
"""Blocked and approval patterns see a name as it is shown, allowed ones see all of it."""

AROUND_LINES = 60
"""Before and behind the three passes over a name."""

COMPILING_LINES_PER_CHARACTER = 12


def pattern(place: int, text: str) -> str:
    """A pattern of full length whose own number stands at its end."""
    return text[: PATTERN_CHARACTERS_MAX - 3] + f"{place:03}"


def worst(text: str) -> SessionConfig:
    """Three lists as long as a request may bring them, none of whose patterns matches but the last allowed one."""
    patterns = [pattern(place, text) for place in range(PATTERNS_MAX)]
    return SessionConfig(blocked_tools=patterns, approval_tools=patterns, allowed_tools=[*patterns[1:], "*"])


def lines_of(run: Callable[[], Any]) -> int:
    """How many lines of the matcher run."""
    count = 0

    def count_line(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        count += event == "line"
        return count_line

    def follow(frame: FrameType, event: str, _: Any) -> Any:
        return count_line if frame.f_code.co_filename == name_pattern.__file__ else None

    before = sys.gettrace()
    sys.settrace(follow)
    try:
        run()
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "text", ["*" + "[ab]" * 48, "*a" * 40, "*?" * 40, "*ab?" * 20, "*" * 64, "?" * 64, "*./é" * 20]
)
@pytest.mark.parametrize("letters", ["a", "ab", "a.", "é"])
def test_the_worst_message_takes_one_pass_over_each_name_for_each_list(text: str, letters: str):
    judge = Judge(worst(text))
    names = [
        f"{place:03}" + (letters * NAME_CHARACTERS_MAX)[: NAME_CHARACTERS_MAX - 3]
        for place in range(CALLS_PER_MESSAGE_MAX)
    ]
    compiled_lists = 4 * PATTERNS_MAX * PATTERN_CHARACTERS_MAX

    lines = lines_of(lambda: [judge.verdict_of(ToolCallDraft(tool_name=name)) for name in names])

    assert lines <= (
        CALLS_PER_MESSAGE_MAX * (CHARACTERS_PER_NAME_MAX * LINES_PER_CHARACTER + AROUND_LINES)
        + compiled_lists * COMPILING_LINES_PER_CHARACTER
    )


def test_each_step_is_one_on_integers_of_as_many_bits_as_a_list_has_characters():
    patterns = [pattern(place, "*a" * 40) for place in range(PATTERNS_MAX)]

    compiled = name_pattern.NamePatterns(patterns)

    assert compiled._done.bit_length() <= PATTERNS_MAX * (PATTERN_CHARACTERS_MAX + 1)


def test_calls_of_one_name_cost_what_one_costs():
    drafts = [
        ToolCallDraft(tool_name="a." * 100, requires_approval=place % 2 == 1) for place in range(CALLS_PER_MESSAGE_MAX)
    ]
    one, many = Judge(worst("*a" * 40)), Judge(worst("*a" * 40))
    one.verdict_of(drafts[0])  # what is compiled is kept

    alone = lines_of(lambda: Judge(worst("*a" * 40)).verdict_of(drafts[0]))
    together = lines_of(lambda: [many.verdict_of(draft) for draft in drafts])

    assert alone == together


def test_a_judge_holds_for_the_same_policy_alone():
    config = SessionConfig(approval_tools=["a"], approval_timeout_seconds=5)
    judge = Judge(config)

    assert judge.judges_by(SessionConfig(approval_tools=["a"], approval_timeout_seconds=5, max_messages=7))
    for other in (
        SessionConfig(approval_timeout_seconds=5),
        SessionConfig(approval_tools=["a"]),
        SessionConfig(approval_tools=["a"], approval_timeout_seconds=5, blocked_tools=["b"]),
        SessionConfig(approval_tools=["a"], approval_timeout_seconds=5, allowed_tools=["b"]),
    ):
        assert not judge.judges_by(other)
