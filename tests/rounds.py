"""How often tests repeat what is left to chance.

`TEST_ROUNDS` is a factor: 0.2 where nothing is set, so that a change is tried soon; 1, the full number, in `.ci/run`
and `make test ARGS=--full`; 20, by hand, for a night of crash windows. What shows itself in one of n repetitions is
missed by m of them with a probability of e^(-m/n): a fault of one in a thousand stays unseen by 4,000 once in fifty
runs, and by 20,000 once in five hundred million.
"""

from __future__ import annotations

import os

FACTOR = float(os.environ.get("TEST_ROUNDS") or "0.2")


def rounds(full: int, at_least: int = 1) -> int:
    """How many repetitions of `full` to run; `at_least` so many as the test needs to say anything."""
    return max(at_least, round(full * FACTOR))
