"""Misspelt names: which of the known ones was meant, in a sentence for a person."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

NAME_CHARACTERS_MAX = 64
"""Longer than any name of ours. What is longer is of no such kind, and comparing takes the square of the length."""

LIKENESS_MIN = 0.6
"""Of difflib's ratio: three letters of five. Below it, what is offered is a guess that leads astray."""

OFFERS_MAX = 10
"""Of one query: more misspelt names are those of another interface. Each costs up to 0.2 ms (measured)."""


def with_nearest(sentence: str, name: str, known: Iterable[str]) -> str:
    """`sentence`, and behind it the known name that is most like `name`, where one is like it."""
    return with_offer(sentence, nearest(name, known))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like `name`, in whatever case; None where none is like it."""
    if len(name) > NAME_CHARACTERS_MAX:
        return None
    by_folded = {candidate.lower(): candidate for candidate in known}
    found = get_close_matches(name.lower(), by_folded, n=1, cutoff=LIKENESS_MIN)
    return by_folded[found[0]] if found else None


def likeness(name: str, known: str) -> float:
    """How much of two names is the same, in whatever case: 0 to 1."""
    if len(name) > NAME_CHARACTERS_MAX:
        return 0.0
    return SequenceMatcher(None, name.lower(), known.lower()).ratio()


def with_offer(sentence: str, meant: str | None) -> str:
    """`sentence`, and behind it what was meant, where that is known."""
    return sentence if meant is None else f"{sentence.removesuffix('.')}. Did you mean `{meant}`?"


def shown(name: str) -> str:
    """`name` as it is said back: all of it, or its beginning, so that no answer is as long as what was sent."""
    return name if len(name) <= NAME_CHARACTERS_MAX else f"{name[:NAME_CHARACTERS_MAX]}…"
