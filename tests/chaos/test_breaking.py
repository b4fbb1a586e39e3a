"""The nemesis notes whatever ends without having been broken, also where it was about to break it."""

from __future__ import annotations

from typing import Any

import pytest
from breaking import KILLED, Breaker
from faults import Fault

ARMED = Fault("web0", "ends after_commit", 0.0, "after_commit:2")


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


def test_who_ended_at_its_point_did_as_it_was_told():
    assert mended(ARMED, KILLED) == (True, [], True)


@pytest.mark.parametrize("code", [1, -11, -9, 0])
def test_who_ended_before_its_point_misbehaved(code: int):
    noted = [f"web0 ended with {code} before it came to after_commit:2"]

    assert mended(ARMED, code) == (False, noted, True)


def test_who_ended_while_it_hung_misbehaved():
    noted = ["web0 ended with 1 while it was only stopped for a while"]

    assert mended(Fault("web0", "hang", 0.0), 1) == (True, noted, True)


@pytest.mark.parametrize("way", ["kill -9", "restart"])
def test_who_was_ended_by_us_is_only_started(way: str):
    assert mended(Fault("web0", way, 0.0), -9) == (True, [], True)
