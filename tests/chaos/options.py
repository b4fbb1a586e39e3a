"""What a run is asked for, and the command that asks for the same again."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

SECONDS = 285.0
"""The whole: five minutes, and below six on a busy machine."""
SHORT_SECONDS = 60.0
SHORT_SEED = 20
SEED_BITS = 32
WHAT = "Breaks Holdfast in every way, and proves what holds."


def read(arguments: list[str]) -> argparse.Namespace:
    """The options, with a seed in any case."""
    parser = argparse.ArgumentParser(prog="make chaos", description=WHAT)
    say = parser.add_argument
    say("--seed", type=int, action="append", help="which faults come when; several: one run after the other")
    say("--seconds", type=float, help=f"how long a run lasts ({SECONDS:.0f})")
    say("--short", action="store_true", help=f"a run of {SHORT_SECONDS:.0f} s under seed {SHORT_SEED}")
    say("--figures", type=Path, metavar="FILE", help="add the figures to a file, each run a line of JSON")
    say("--keep", action="store_true", help="keep history and logs, also where all promises hold")
    say("--write-docs", action="store_true", help="write docs/reliability.md from these runs and those of --figures")
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or _seconds(options)
    if options.seed is None:
        options.seed = [SHORT_SEED if options.short else random.SystemRandom().getrandbits(SEED_BITS)]
    return options


def again(seed: int, options: argparse.Namespace) -> str:
    """The command that repeats a run."""
    short = " --short" if options.short else ""
    seconds = "" if options.seconds == _seconds(options) else f" --seconds {options.seconds:g}"
    return f'make chaos ARGS="--seed {seed}{short}{seconds}"'


def _seconds(options: argparse.Namespace) -> float:
    """How long a run lasts of which nobody has said it."""
    return SHORT_SECONDS if options.short else SECONDS
