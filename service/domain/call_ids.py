"""The ids of tool calls in a transcript, as a model's provider takes them."""

from __future__ import annotations

import re

from service.domain.tool_call import ToolCall

FIT = re.compile(r"[A-Za-z0-9_-]{1,40}")
"""What both providers take as the id of a call; ours, a UUID, has 36 characters."""


class CallIds:
    """One id for each call, as the provider gave it where that is fit and not used twice in this transcript."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def of(self, call: ToolCall) -> str:
        """The id of a call; every call is asked for once."""
        theirs = call.provider_call_id or ""
        chosen = theirs if FIT.fullmatch(theirs) else str(call.id)
        if chosen in self._given:
            chosen = str(call.id)
        while chosen in self._given:  # somebody has named a call of theirs like this one of ours
            chosen += "-"
        self._given.add(chosen)
        return chosen
