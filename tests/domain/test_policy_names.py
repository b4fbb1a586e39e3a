"""A name escapes no pattern by the form in which a context shows it, and needs no other one to be allowed."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from random_conversations import call_of, message_of
from test_name_pattern import is_match

from service.domain.message import Role
from service.domain.policy import Judge, Verdict
from service.domain.session import SessionConfig
from service.domain.tool_call import CallStatus, ToolCallDraft
from service.domain.tool_name import shown_name
from service.domain.transcript import Format, transcript_of

LETTERS = "a_./é"
WILD = "*?"
LONG = st.sampled_from(["", "a" * 62, "a" * 64, "a" * 63 + ".", "é" * 70])
NAMES = st.builds("".join, st.tuples(st.text(LETTERS, min_size=1, max_size=6), LONG, st.text(LETTERS, max_size=3)))
PATTERNS = st.lists(
    st.builds("".join, st.tuples(st.text(LETTERS + WILD, max_size=5), LONG, st.text(LETTERS + WILD, min_size=1))),
    max_size=3,
)
CONFIGS = st.builds(SessionConfig, allowed_tools=PATTERNS, blocked_tools=PATTERNS, approval_tools=PATTERNS)
SHORT_LETTERS = "a_.*"
SHORT_PATTERNS = ["".join(letters) for length in (1, 2, 3) for letters in product(SHORT_LETTERS, repeat=length)]
SHORT_NAMES = ["".join(letters) for length in (1, 2, 3) for letters in product("a_./", repeat=length)]


def verdict(config: SessionConfig, name: str) -> Verdict:
    return Judge(config).verdict_of(ToolCallDraft(tool_name=name))


def shown_in_contexts(name: str) -> set[str]:
    """What a model is shown of a call of this name, and of a call by the name that it was shown."""
    shown = set()
    for called in (name, shown_name(name)):
        said = [message_of(Role.ASSISTANT, "", [call_of(3, tool_name=called)])]
        (openai,) = transcript_of(said, Format.OPENAI).messages[0]["tool_calls"]
        shown |= {openai["function"]["name"], transcript_of(said, Format.ANTHROPIC).messages[1]["content"][0]["name"]}
    return shown


@given(CONFIGS, NAMES)
@example(SessionConfig(approval_tools=["mail.*"]), "mail.send")
@example(SessionConfig(blocked_tools=["db.drop"]), "db.drop")
@example(SessionConfig(blocked_tools=["*z"]), "a" * 64 + "z")
@example(SessionConfig(allowed_tools=["*"], approval_tools=["é?"]), "éé")
def test_no_form_of_a_name_that_is_blocked_or_waits_is_approved(config: SessionConfig, name: str):
    stopped = any(is_match(pattern, name) for pattern in [*config.blocked_tools, *config.approval_tools])

    for form in (name, *shown_in_contexts(name)):
        assert not stopped or verdict(config, form).status is not CallStatus.APPROVED, form


@given(CONFIGS, NAMES, st.data())
def test_names_that_are_shown_alike_are_caught_alike(config: SessionConfig, name: str, draw: st.DataObject):
    """So whatever name of those a client maps back to, the verdict is no other but for what is allowed."""
    free = SessionConfig(blocked_tools=config.blocked_tools, approval_tools=config.approval_tools)
    other = "".join(draw.draw(st.sampled_from("_./é")) if re.match(r"[_./é]", letter) else letter for letter in name)

    assert shown_name(other) == shown_name(name)
    assert verdict(free, other) == verdict(free, name) == verdict(free, shown_name(name))


@given(CONFIGS, NAMES)
def test_what_is_allowed_by_its_shown_form_is_the_shown_form_of_an_allowed_name(config: SessionConfig, name: str):
    """Of the same length: nothing is allowed by what would have been cut off."""
    allowing = SessionConfig(allowed_tools=config.allowed_tools)
    is_matched = any(is_match(pattern, name) for pattern in config.allowed_tools)
    is_allowed = verdict(allowing, name).status is CallStatus.APPROVED

    assert is_allowed or not is_matched
    if is_allowed and config.allowed_tools and not is_matched:
        assert shown_name(name) == name
        assert any(re.fullmatch(as_shown(pattern), name) for pattern in config.allowed_tools)
    if is_matched and len(name) <= 64:
        assert verdict(allowing, shown_name(name)).status is CallStatus.APPROVED


def as_shown(pattern: str) -> str:
    """A regular expression for the forms in which names that a pattern matches are shown, if they are short."""
    return "".join({"*": ".*", "?": "."}.get(letter, letter if letter == "a" else "_") for letter in pattern)


def test_a_short_name_is_caught_if_and_only_if_a_name_that_is_shown_like_it_is_matched():
    for name in SHORT_NAMES:
        alike = [other for other in SHORT_NAMES if shown_name(other) == shown_name(name)]
        for pattern in SHORT_PATTERNS:
            caught = verdict(SessionConfig(blocked_tools=[pattern]), name).status is CallStatus.REJECTED

            assert caught is any(is_match(pattern, other) for other in alike), (pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name", "caught"),
    [
        ("mail.*", "mail_send", True),
        ("mail_*", "mail.send", True),
        ("mail/*", "mail.send", True),
        ("mail.*", "mailbox", False),
        ("mail-send", "mail_send", False),
        ("größe", "gr__e", True),
        ("[ab]", "a", False),
        ("[ab]", "_ab_", True),
        ("*z", "a" * 64, True),
        ("*z", "a" * 63, False),
        ("a" * 64 + ".b", "a" * 64, True),
        ("a" * 64 + ".b", "a" * 65 + "b", True),
        ("b*", "a" * 64, False),
    ],
)
def test_a_pattern_catches_every_form(pattern: str, name: str, caught: bool):
    assert verdict(SessionConfig(blocked_tools=["other", pattern]), name) == (
        Verdict(CallStatus.REJECTED, f"blocked_tools has '{pattern}'")
        if caught
        else Verdict(CallStatus.APPROVED, "no approval is needed")
    )
    assert verdict(SessionConfig(approval_tools=["other", pattern]), name) == (
        Verdict(CallStatus.PENDING, f"approval_tools has '{pattern}'")
        if caught
        else Verdict(CallStatus.APPROVED, "no approval is needed")
    )


@pytest.mark.parametrize(
    ("pattern", "name", "allowed"),
    [
        ("mail.send", "mail.send", True),
        ("mail.send", "mail_send", True),
        ("mail_send", "mail_send", True),
        ("mail_send", "mail.send", False),
        ("mail/send", "mail.send", False),
        ("mail.*", "mail_send", True),
        ("mail.*", "mailbox", False),
        ("*z", "a" * 64, False),
        ("*z", "a" * 64 + "z", True),
        ("a*", "a" * 64, True),
        ("[ab]", "a", False),
    ],
)
def test_a_pattern_allows_the_name_that_it_matches_and_its_shown_form(pattern: str, name: str, allowed: bool):
    assert verdict(SessionConfig(allowed_tools=["other", pattern]), name) == (
        Verdict(CallStatus.APPROVED, "no approval is needed")
        if allowed
        else Verdict(CallStatus.REJECTED, "allowed_tools has no match")
    )
