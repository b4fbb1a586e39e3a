"""Plants known bugs into a copy of the tree, one at a time, and tells whether the tests that should catch one do.

`make planted` for all; some: `make planted ARGS="notify doorbell"`; what there is: `make planted ARGS=--list`.
Whoever changes a line into which a bug is planted is told that the plant has rotted, and mends it beside the line.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bugs import THE_TWELVE, Bug
from cache_bugs import OF_THE_CACHE
from context_bugs import OF_CONTEXTS
from own_bugs import OF_OUR_OWN
from place_bugs import OF_PLACES
from turn_bugs import OF_TURNS

from service.embedded import launch

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (".git", ".venv", ".holdfast", ".*_cache", ".hypothesis", ".schemathesis", "__pycache__", "node_modules")

TESTS_SECONDS_MAX = 900.0
"""For all tests without a bug; on a quiet machine they take two minutes."""

BUG_SECONDS_MAX = 240.0
"""A bug may make tests hang, and tests end what hangs after 60 s; what takes longer has not been caught."""

CAUGHT = re.compile(r"^FAILED (.+?)(?: - .*)?$", re.MULTILINE)

SAID = re.compile(r"^E +(.+)$", re.MULTILINE)
"""What an assertion or an error says, as pytest shows it."""


class Rotten(Exception):
    """A bug cannot be planted any more; the message says where to look."""


def main(arguments: list[str]) -> int:
    """Plant the bugs that are named, or all; 1 where any is not caught."""
    every = [*THE_TWELVE, *OF_OUR_OWN, *OF_THE_CACHE, *OF_CONTEXTS, *OF_TURNS, *OF_PLACES]
    if "--list" in arguments:
        for bug in every:
            say(f"{bug.name:<32}{bug.what}")
        return 0
    unknown = set(arguments) - {bug.name for bug in every}
    if unknown:
        say(f"There is no bug {min(unknown)!r}; --list shows them.")
        return 2
    chosen = [bug for bug in every if not arguments or bug.name in arguments]
    with tempfile.TemporaryDirectory(prefix="holdfast-planted-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True)
        return try_all(tree, chosen)


def try_all(tree: Path, chosen: list[Bug]) -> int:
    """First the tests as they are, then each bug; the exit code."""
    began = time.monotonic()
    broken = failures_without_a_bug(tree, chosen)
    if broken is not None:
        say(f"Without any bug the tests do not pass, so they can show nothing:\n{broken}")
        return 1
    say(f"without a bug all tests pass ({time.monotonic() - began:.0f} s)")
    missed = 0
    for bug in chosen:
        began = time.monotonic()
        try:
            verdict = verdict_on(tree, bug)
        except Rotten as rotten:
            verdict = f"NOT CAUGHT: {rotten}"
        missed += not verdict.startswith("caught")
        say(f"{bug.name:<32}{verdict} ({time.monotonic() - began:.0f} s)")
    say(f"{len(chosen) - missed} of {len(chosen)} caught")
    return 1 if missed else 0


def failures_without_a_bug(tree: Path, chosen: list[Bug]) -> str | None:
    """What the chosen tests say before anything is planted; None: they pass, and they test the copy."""
    place = "import service, workers; print(service.__file__, workers.__file__)"
    found = run(tree, ["-c", place], TESTS_SECONDS_MAX)
    if any(not Path(file).is_relative_to(tree) for file in found.stdout.split()):
        return f"what is imported is not the copy: {found.stdout}"
    tests = sorted({test for bug in chosen for test in bug.tests})
    ran = run(tree, ["-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *tests], TESTS_SECONDS_MAX)
    return None if ran.returncode == 0 else ran.stdout[-4000:] + ran.stderr[-4000:]


def verdict_on(tree: Path, bug: Bug) -> str:
    """Plant a bug, run its tests until one fails, and take it out again.

    Raises:
        Rotten: its place is not there, or not the only one.
    """
    before = {edit.file: (tree / edit.file).read_text() for edit in bug.edits}
    try:
        for file, text in planted(bug, before).items():
            (tree / file).write_text(text)
        ran = run(
            tree, ["-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", *bug.tests], BUG_SECONDS_MAX
        )
    except subprocess.TimeoutExpired:
        return f"NOT CAUGHT: not decided within {BUG_SECONDS_MAX:.0f} s"
    finally:
        for file, text in before.items():
            (tree / file).write_text(text)
    caught = CAUGHT.findall(ran.stdout)
    if caught and is_seen(bug, ran.stdout):
        return f"caught by {caught[0]}"
    if caught:
        return f"NOT CAUGHT: {caught[0]} failed, and not by {bug.sees!r}:\n{ran.stdout[-2000:]}"
    if ran.returncode == 0:
        return "NOT CAUGHT"
    # A test that cannot even begin shows that the plant is broken, not that the bug is seen.
    return f"NOT CAUGHT: the tests could not be run:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"


def is_seen(bug: Bug, output: str) -> bool:
    """Whether what failed says what this bug makes it say: a plant may break for a reason of its own."""
    said = "\n".join(SAID.findall(output))
    return re.search(bug.sees, said, re.MULTILINE) is not None


def planted(bug: Bug, before: dict[str, str]) -> dict[str, str]:
    """The files with the bug in them.

    Raises:
        Rotten: its place is not there, or not the only one.
    """
    after = dict(before)
    for edit in bug.edits:
        if after[edit.file].count(edit.old) != 1:
            count = after[edit.file].count(edit.old)
            raise Rotten(f"the plant has rotted: {edit.file} has {count} times what it replaces:\n{edit.old}")
        after[edit.file] = after[edit.file].replace(edit.old, edit.new)
    return after


def run(tree: Path, arguments: list[str], seconds_max: float) -> subprocess.CompletedProcess[str]:
    """Run our Python in the copy; when it takes too long, end it with all that it started.

    Raises:
        subprocess.TimeoutExpired.
    """
    environment = {"TEST_ROUNDS": "1", **os.environ, "PYTHONPATH": str(tree)}
    # It ends with us, should we be killed: a bug may have made it spin.
    command = launch.command([sys.executable, *arguments], death_signal=signal.SIGKILL)
    with subprocess.Popen(
        command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            stdout, stderr = process.communicate(timeout=seconds_max)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def say(line: str) -> None:
    """Write a line at once, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
