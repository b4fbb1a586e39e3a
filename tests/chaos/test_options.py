"""What is printed to repeat a run asks for the same run."""

from __future__ import annotations

import shlex

import pytest
from options import SECONDS, SHORT_SECONDS, again, read

ASKED = (
    ["--seed", "7"],
    ["--seed", "7", "--short"],
    ["--seed", "7", "--seconds", f"{SHORT_SECONDS}"],
    ["--seed", "7", "--short", "--seconds", f"{SECONDS}"],
    ["--seed", "7", "--seconds", "99.5"],
    ["--short"],
    [],
)


@pytest.mark.parametrize("arguments", ASKED, ids=" ".join)
def test_the_command_that_repeats_a_run_asks_for_the_same(arguments: list[str]):
    asked = read(arguments)
    (_, _, repeated) = shlex.split(again(asked.seed[0], asked))
    once_more = read(shlex.split(repeated.removeprefix("ARGS=")))

    assert vars(once_more) == vars(asked)
