"""The nemesis notes whatever ends without having been broken, also where it was about to break it."""

from __future__ import annotations

from typing import Any

import pytest
from breaking import KILLED, Breaker
from faults import Fault

POINT = "after_commit:2"
ARMED = Fault("web0", "ends after_commit", 0.0, POINT)


class Ended:
    """A part that has ended with a code, and can be started anew."""

    name = "web0"
    pid = 0

    def __init__(self, code: int) -> None:
        self._code = code
        self.running = False

    def wait(self) -> int:
        return self._code

    def start(self) -> None:
        self.running = True


def mended(fault: Fault, code: int) -> tuple[bool, list[str], bool]:
    """Whether it was met, what is noted, and whether the part runs again."""
    part: Any = Ended(code)
    breaker = Breaker(None, {"web0": part}, lambda: None)  # type: ignore[arg-type]
    return breaker.mend(fault), breaker.misbehaved, part.running


@pytest.mark.parametrize(
    ("fault", "code", "is_met", "noted"),
    [
        (ARMED, KILLED, True, []),
        *[(ARMED, code, False, [f"web0 ended with {code} before it came to {POINT}"]) for code in (1, -11, -9, 0)],
        (Fault("web0", "hang", 0.0), 1, True, ["web0 ended with 1 while it was only stopped for a while"]),
        *[(Fault("web0", way, 0.0), -9, True, []) for way in ("kill -9", "restart")],
    ],
)
def test_who_ended_otherwise_than_it_was_to_end_misbehaved_and_is_started(
    fault: Fault, code: int, is_met: bool, noted: list[str]
):
    assert mended(fault, code) == (is_met, noted, True)
