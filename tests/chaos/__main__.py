"""Breaks Holdfast in every way, and proves what holds: `python tests/chaos --seed 7`, or `make chaos`."""

from __future__ import annotations

import argparse
import json
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
from options import again, read  # noqa: E402
from planning import Spans  # noqa: E402
from running import Run  # noqa: E402
from telling import page, told  # noqa: E402

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
