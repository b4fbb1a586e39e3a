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

SECONDS = 330.0
"""The whole: below six minutes, also on a busy machine."""
SHORT_SECONDS = 60.0
SHORT_SEED = 20
SEED_BITS = 32
PAGE = ROOT / "docs" / "reliability.md"
INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Run each seed; 1 when a promise was broken or a goal missed."""
    options = read(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    runs = (
        [Figures(**json.loads(line)) for line in options.read_figures.read_text().splitlines()]
        if options.read_figures
        else []
    )
    code = 0
    for seed in options.seed:
        figures, kept = run_one(seed, options)
        runs.append(figures)
        sys.stdout.write(told(figures))
        if options.figures:
            with options.figures.open("a") as file:
                file.write(json.dumps(asdict(figures), ensure_ascii=False) + "\n")
        if kept is not None:
            code = 1
            sys.stdout.write(f'\nHistory and logs: {kept}\nOnce more: make chaos ARGS="{again(seed, options)}"\n')
        else:
            sys.stdout.write(f"\nAll promises hold under seed {seed}.\n")
        sys.stdout.flush()
    if options.write_docs and runs:
        PAGE.write_text(page(runs))
        sys.stdout.write(f"Written: {PAGE.relative_to(ROOT)}\n")
    return code


def read(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument(
        "--seed", type=int, action="append", help="which faults come when; several: one run after the other"
    )
    parser.add_argument("--seconds", type=float, help=f"how long a run lasts ({SECONDS:.0f})")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_SECONDS:.0f} s under seed {SHORT_SEED}")
    parser.add_argument(
        "--figures", type=Path, metavar="FILE", help="add each run's figures to this file, as a line of JSON"
    )
    parser.add_argument(
        "--read-figures",
        type=Path,
        metavar="FILE",
        help="begin with the runs of this file; none is started unless a seed is given",
    )
    parser.add_argument("--write-docs", action="store_true", help="write docs/reliability.md from all these runs")
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (SHORT_SECONDS if options.short else SECONDS)
    if options.seed is None:
        chosen = SHORT_SEED if options.short else random.SystemRandom().getrandbits(SEED_BITS)
        options.seed = [] if options.read_figures else [chosen]
    return options


def run_one(seed: int, options: argparse.Namespace) -> tuple[Figures, Path | None]:
    """One run; and the folder that tells of it, where a promise was broken or a goal missed."""
    sys.stdout.write(f'seed {seed}; once more: make chaos ARGS="{again(seed, options)}"\n')
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
        return figures, keep(home, seed) if is_bad else None


def again(seed: int, options: argparse.Namespace) -> str:
    seconds = "" if options.seconds in {SECONDS, SHORT_SECONDS} else f" --seconds {options.seconds:g}"
    return f"--seed {seed}{' --short' if options.short else ''}{seconds}"


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
