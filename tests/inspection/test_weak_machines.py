"""Machines that lack a lock: files of strangers stay unread there, unless the operator has allowed it.

The kernel that lacks it is this one behind a filter, which says of Landlock and seccomp that they are not there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from reports import names_in

from workers.inspection import inspect
from workers.inspection.messages import Layer
from workers.inspection.refusals import NOT_LOCKED_IN

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these locks are Linux's")

WORKER = textwrap.dedent(
    """
    import asyncio, ctypes, errno, json, os, sys
    from pathlib import Path
    from workers.inspection import seccomp
    from workers.inspection.inspect import InspectionFailed, inspect, locks_that_hold

    source, output, missing = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    PRCTL = {"x86_64": 157, "aarch64": 167}[os.uname().machine]
    step = seccomp._Instruction

    def answers(number, error):
        return [step(seccomp.JUMP_IF_EQUAL, 0, 1, number), step(seccomp.ANSWER, 0, 0, 0x50000 | error)]

    program = [step(seccomp.LOAD_WORD, 0, 0, seccomp.NUMBER_OFFSET)]
    if "landlock" in missing:
        for number in (444, 445, 446):
            program += answers(number, errno.ENOSYS)
    if "seccomp" in missing:
        program += [
            step(seccomp.JUMP_IF_EQUAL, 0, 3, PRCTL),
            step(seccomp.LOAD_WORD, 0, 0, seccomp.ARGUMENTS_OFFSET),
            *answers(seccomp.PR_SET_SECCOMP, errno.EINVAL),
        ]
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert seccomp.install(libc, [*program, step(seccomp.ANSWER, 0, 0, seccomp.ALLOW)])

    async def look(may_be_weak):
        try:
            report = await inspect(source, filename="a.txt", declared="", output=output, may_be_weak=may_be_weak)
        except InspectionFailed as failed:
            return [failed.code, failed.sentence, failed.content_type, failed.is_transient]
        return report.text.read_text()

    async def tell():
        return [sorted(await locks_that_hold()), await look(False), os.listdir(output), await look(True)]

    print(json.dumps(asyncio.run(tell())))
    """
)


@pytest.fixture(params=[("landlock",), ("seccomp",), ("landlock", "seccomp")], ids="-".join)
def missing(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return request.param


@pytest.fixture
def told(tmp_path: Path, missing: tuple[str, ...]) -> list[Any]:
    """The locks that hold, how a file ends there, what is left of it, and its text where weak locks are allowed."""
    source, output = tmp_path / "source", tmp_path / "output"
    source.write_bytes(b"words")
    output.mkdir()
    ran = subprocess.run(
        [sys.executable, "-c", WORKER, source, output, *missing],
        cwd=inspect.ROOT,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    assert names_in(output) == ["text.txt"]
    return json.loads(ran.stdout)


def test_a_file_is_refused_unread_unless_weak_locks_are_allowed(told: list[Any], missing: tuple[str, ...]):
    held, refused, left, text = told

    assert held == sorted(set(Layer) - set(missing))
    assert refused == ["inspection_unavailable", NOT_LOCKED_IN, None, False]
    assert left == []
    assert text == "words"


async def test_where_no_child_can_be_started_no_lock_holds(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspect, "COMMAND", ("/nowhere/python",))

    assert await inspect.locks_that_hold() == frozenset()


async def test_this_machine_has_all_locks():
    assert await inspect.locks_that_hold() == frozenset(Layer)
