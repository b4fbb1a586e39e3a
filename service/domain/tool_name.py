"""The name of a tool, as a context shows it to a model's provider."""

from __future__ import annotations

import re

SHOWN_CHARACTERS_MAX = 64
"""OpenAI's limit for the name of a function (`FunctionDefinition.name` of its package); Anthropic takes 128."""

UNFIT = re.compile(r"[^A-Za-z0-9_-]")
"""What both providers refuse in the name of a tool."""


def shown_name(name: str) -> str:
    """The form in which a context shows `name`: unfit characters become `_`, and it is cut at 64 characters.

    A name that is shown already stays as it is.
    """
    return in_fit_characters(name)[:SHOWN_CHARACTERS_MAX]


def in_fit_characters(name: str) -> str:
    """`name` with `_` for every character that providers refuse, in its whole length."""
    return UNFIT.sub("_", name)
