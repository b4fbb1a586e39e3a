"""Breaks Holdfast in every way, and proves what holds: `python tests/chaos --seed 7`, or `make chaos`."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parent / "e2e"), str(ROOT)]

from figures import Figures  # noqa: E402 - the paths first
from planning import Spans  # noqa: E402
from running import Run  # noqa: E402
from telling import page, told  # noqa: E402

SECONDS = 285.0
"""The whole: five minutes, and below six on a busy machine."""
SHORT_SECONDS = 60.0
SHORT_SEED = 20
SEED_BITS = 32
PAGE = ROOT / "docs" / "reliability.md"
FIGURES = HERE / "figures.jsonl"
"""What the page was written from."""
INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Run each seed; 1 when a promise was broken or a goal missed."""
    options = read(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    runs, code = read_figures(options.figures), 0
    for seed in options.seed:
        figures, kept = run_one(seed, options)
        runs.append(figures)
        sys.stdout.write(told(figures))
        if options.figures is not None:
            write_figures(options.figures, runs)
        if kept is not None:
            code = 1
            sys.stdout.write(f"\nHistory and logs: {kept}\nOnce more: {again(seed, options)}\n")
        elif figures.missed:
            sys.stdout.write(f"\nAll promises hold under seed {seed}; for the goals a run was too short.\n")
        else:
            sys.stdout.write(f"\nAll promises hold under seed {seed}.\n")
        sys.stdout.flush()
    if options.write_docs:
        write_figures(FIGURES, runs)
        PAGE.write_text(page(runs))
        sys.stdout.write(f"Written: {PAGE.relative_to(ROOT)}\n")
    return code


def read(arguments: list[str]) -> argparse.Namespace:
    """The options, with a seed in any case."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    say = parser.add_argument
    say("--seed", type=int, action="append", help="which faults come when; several: one run after the other")
    say("--seconds", type=float, help=f"how long a run lasts ({SECONDS:.0f})")
    say("--short", action="store_true", help=f"a run of {SHORT_SECONDS:.0f} s under seed {SHORT_SEED}")
    say("--figures", type=Path, metavar="FILE", help="add the figures to a file, each run a line of JSON")
    say("--keep", action="store_true", help="keep history and logs, also where all promises hold")
    say("--write-docs", action="store_true", help="write docs/reliability.md from these runs and those of --figures")
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (SHORT_SECONDS if options.short else SECONDS)
    if options.seed is None:
        options.seed = [SHORT_SEED if options.short else random.SystemRandom().getrandbits(SEED_BITS)]
    return options


def read_figures(file: Path | None) -> list[Figures]:
    """The runs that a file tells of."""
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    return [Figures(**json.loads(line)) for line in lines]


def write_figures(file: Path, runs: list[Figures]) -> None:
    """Each run as a line."""
    file.write_text("".join(f"{json.dumps(asdict(run), ensure_ascii=False)}\n" for run in runs))


def run_one(seed: int, options: argparse.Namespace) -> tuple[Figures, Path | None]:
    """One run; and the folder that tells of it, where a promise was broken or a goal missed."""
    sys.stdout.write(f"seed {seed}; once more: {again(seed, options)}\n")
    sys.stdout.flush()
    with own_folder() as home:
        run = Run(seed, Spans.of(options.seconds), home, is_short=options.short)
        try:
            figures = run()
        except KeyboardInterrupt:
            raise
        except BaseException:
            keep(home, seed)
            raise
        # A minute is too short to compare times.
        is_bad = figures.violations or (figures.missed and not options.short)
        if options.keep and not is_bad:
            sys.stdout.write(f"History and logs: {keep(home, seed)}\n")
        return figures, keep(home, seed) if is_bad else None


def again(seed: int, options: argparse.Namespace) -> str:
    """The command that repeats a run."""
    seconds = "" if options.seconds in {SECONDS, SHORT_SECONDS} else f" --seconds {options.seconds:g}"
    return f'make chaos ARGS="--seed {seed}{" --short" if options.short else ""}{seconds}"'


@contextmanager
def own_folder() -> Iterator[Path]:
    """A folder for all of a run, gone afterwards, even if this process is killed."""
    home = Path(tempfile.mkdtemp(prefix="holdfast-chaos-"))
    before = tempfile.tempdir
    sweeper = subprocess.Popen(
        [sys.executable, "-I", "-S", str(HERE / "sweeping.py"), str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    tempfile.tempdir = str(home)
    try:
        yield home
    finally:
        tempfile.tempdir = before
        shutil.rmtree(home, ignore_errors=True)
        sweeper.communicate()


def keep(home: Path, seed: int) -> Path:
    """Copy what tells of a run out of its folder."""
    kept = Path(tempfile.mkdtemp(prefix=f"chaos-seed-{seed}-", dir=home.parent))
    for file in [*home.glob("*.jsonl"), *home.glob("logs/*")]:
        shutil.copy(file, kept / file.name)
    return kept


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(INTERRUPTED)
