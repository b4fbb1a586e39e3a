"""Patterns of names, against the plainest way to compare them."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.name_pattern import NamePatterns

SHORT = ["".join(letters) for length in range(5) for letters in product("ab*?", repeat=length)]
NAMES = ["".join(letters) for length in range(6) for letters in product("ab", repeat=length)]
PATTERNS = st.lists(st.text("ab.[]*?", max_size=8), max_size=6)


def is_match(pattern: str, name: str) -> bool:
    """By the words of the contract: `*` takes as much as it likes, and every way is tried."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return any(is_match(pattern[1:], name[taken:]) for taken in range(len(name) + 1))
    return bool(name) and pattern[0] in {"?", name[0]} and is_match(pattern[1:], name[1:])


def matches(pattern: str, name: str) -> bool:
    return list(NamePatterns([pattern]).matching(name)) == [0]


def test_every_short_pattern_matches_what_the_contract_says():
    compiled = NamePatterns(SHORT)

    for name in NAMES:
        assert list(compiled.matching(name)) == [n for n, pattern in enumerate(SHORT) if is_match(pattern, name)], name


def test_every_short_pattern_that_matches_something_longer_is_found():
    compiled = NamePatterns(SHORT)
    longest = max(map(len, SHORT))

    for beginning in ("", "a", "ab", "bba"):
        longer = [beginning + name for name in NAMES if len(name) <= longest]
        assert list(compiled.matching_longer(beginning)) == [
            n for n, pattern in enumerate(SHORT) if any(is_match(pattern, name) for name in longer)
        ], beginning


@given(PATTERNS, st.text("ab.[]*?", max_size=10))
def test_a_list_matches_as_each_of_its_patterns_does_alone(patterns: list[str], name: str):
    expected = [n for n, pattern in enumerate(patterns) if is_match(pattern, name)]

    assert list(NamePatterns(patterns).matching(name)) == expected
    assert [n for n, pattern in enumerate(patterns) if matches(pattern, name)] == expected


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("mail.*", "mail.", True),
        ("mail.*", "mailbox", False),
        ("mail.?end", "mail.send", True),
        ("MAIL.*", "mail.send", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("größe*", "größe😀\n", True),
        ("?", "😀", True),
        ("\\*", "\\anything", True),
        ("", "", True),
    ],
)
def test_only_an_asterisk_and_a_question_mark_are_special(pattern: str, name: str, expected: bool):
    assert matches(pattern, name) is expected


def test_a_pattern_that_could_be_tried_in_countless_ways_is_compared_in_one_pass():
    """Trying them all would take 2**60 steps and more; this ends or hangs."""
    assert not matches("*a" * 60 + "*b", "a" * 200)
    assert matches("*a" * 60 + "*b", "a" * 199 + "b")
