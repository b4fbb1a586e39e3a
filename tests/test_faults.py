"""Points at which a process ends itself: at the one that was asked for, when it was asked for, and never otherwise."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service import faults
from service.faults import KILLED, Point
from service.settings import FAULT

ROOT = Path(__file__).resolve().parents[1]
PASSES = """
import sys
from service import faults
from service.faults import Point
from service.log import configure_logging
from service.settings import LogLevel
configure_logging(LogLevel.INFO)
faults.arm(sys.argv[1])
for number in range(1, 10):
    for point in Point:
        print(f"passes {point} {number}", flush=True)
        faults.reach(point)
"""
SECONDS_MAX = 60


def lives_until(fault: str) -> tuple[int, str, list[dict[str, object]]]:
    """The exit code of a process that passes all points nine times, the last one that it came to, and what it said."""
    ended = subprocess.run(
        [sys.executable, "-c", PASSES, fault],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    said = [json.loads(line) for line in lines if line.startswith("{")]
    return ended.returncode, [line for line in lines if line.startswith("passes")][-1], said


@pytest.mark.parametrize("point", Point)
def test_a_process_ends_at_its_point_and_says_so(point: Point):
    code, last, said = lives_until(point)

    assert (code, last) == (KILLED, f"passes {point} 1")
    assert [(line["event"], line["level"]) for line in said] == [
        ("fault.armed", "warning"),
        ("fault.reached", "warning"),
    ]


def test_a_later_passing_can_be_named():
    assert lives_until("after_push:4")[:2] == (KILLED, "passes after_push 4")
    assert lives_until("after_push:10")[:2] == (0, f"passes {list(Point)[-1]} 9")


def test_nothing_ends_where_nothing_is_armed():
    assert not faults.is_armed()
    for point in Point:
        faults.reach(point)


def test_the_variable_takes_every_point_and_no_other_word():
    assert all(re.fullmatch(FAULT, f"{point}:2") for point in Point)
    assert set(re.findall("[a-z_]{3,}", FAULT)) == set(Point)
