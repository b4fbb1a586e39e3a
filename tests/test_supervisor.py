"""The supervisor on real processes: restarts, stops, gives up, leaves nothing."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eventually import DEADLINE_SECONDS, wait_until
from processes import alive

from service.supervisor import SupervisorError, run

ROOT = Path(__file__).resolve().parents[1]

SUPERVISE = """
import json, os, sys
from service.supervisor import run
say = lambda line: print(line, flush=True)
lines = json.loads(sys.argv[1])
environments = dict.fromkeys(lines, os.environ)
sys.exit(run(lines, environments=environments, say=say, on_started=lambda: say("all started")))
"""
TELL_AND_STAY = "import os, time; print('pid', os.getpid()); time.sleep(600)"
TELL_AND_STAY_DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {TELL_AND_STAY}"
WITH_GRANDCHILD = (
    "import os, subprocess, sys; "
    "print('pid', os.getpid()); "
    "print('pid', subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']).pid); "
    "os.wait()"
)
WRITE_ON_THE_TERMINAL = (
    r"import sys, time; sys.stdout.buffer.write('a\tb\x1b[2J\x7f\x9b2J\u202e\u2028\U000e0001é\n'.encode()); "
    "sys.stdout.flush(); time.sleep(600)"
)
FAIL = "print('the reason'); raise SystemExit(3)"


class Supervised:
    """A supervisor in a process of its own, its output in a file."""

    def __init__(self, output: Path, **programs: str) -> None:
        lines = {name: shlex.join([sys.executable, "-c", program]) for name, program in programs.items()}
        self.output = output
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISE, json.dumps(lines)], stdout=file, stderr=file, cwd=ROOT
            )

    def text(self) -> str:
        return self.output.read_text()

    def pids(self, name: str) -> list[int]:
        return [int(pid) for pid in re.findall(rf"{name} *\| pid (\d+)", self.text())]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, "the processes are as they must be")


@pytest.fixture
def supervise(tmp_path: Path) -> Iterator[Callable[..., Supervised]]:
    """Starts supervisors, and ends those that a failed test leaves."""
    started: list[Supervised] = []

    def start(**programs: str) -> Supervised:
        started.append(Supervised(tmp_path / f"output{len(started)}", **programs))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()


def test_a_killed_process_starts_again_and_the_others_stay(supervise: Callable[..., Supervised]) -> None:
    one = supervise(alpha=TELL_AND_STAY, beta=TELL_AND_STAY)
    one.wait_for(lambda: len(one.pids("alpha")) == 1 and len(one.pids("beta")) == 1)
    os.kill(one.pids("alpha")[0], signal.SIGKILL)
    one.wait_for(lambda: len(one.pids("alpha")) == 2)
    assert "alpha was ended by SIGKILL; it starts again in 0.2 s" in one.text()
    assert len(one.pids("beta")) == 1
    assert one.text().count("all started") == 1


def test_what_a_process_prints_moves_nothing_on_the_terminal(supervise: Callable[..., Supervised]) -> None:
    one = supervise(alpha=WRITE_ON_THE_TERMINAL)
    one.wait_for(lambda: "é" in one.text())

    assert "a\tb\\u001b[2J\\u007f\\u009b2J\\u202e\\u2028\\udb40\\udc01é\n" in one.text()


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_requested_stop_ends_all_with_code_0(supervise: Callable[..., Supervised], asked: signal.Signals) -> None:
    one = supervise(alpha=TELL_AND_STAY, beta=WITH_GRANDCHILD)
    one.wait_for(lambda: len(one.pids("alpha")) == 1 and len(one.pids("beta")) == 2)
    os.kill(one.pids("alpha")[0], signal.SIGSTOP)  # a paused process is no obstacle
    one.process.send_signal(asked)
    assert one.process.wait(DEADLINE_SECONDS) == 0
    assert not any(alive(pid) for pid in one.pids("alpha") + one.pids("beta"))
    assert "Traceback" not in one.text()


def test_a_second_signal_ends_a_stubborn_process(supervise: Callable[..., Supervised]) -> None:
    one = supervise(alpha=TELL_AND_STAY_DEAF, beta=TELL_AND_STAY)
    one.wait_for(lambda: len(one.pids("alpha")) == 1 and len(one.pids("beta")) == 1)
    one.process.send_signal(signal.SIGTERM)
    one.wait_for(lambda: not alive(one.pids("beta")[0]))
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(DEADLINE_SECONDS) == 0
    assert not alive(one.pids("alpha")[0])


def test_a_crash_loop_ends_all_and_says_why(supervise: Callable[..., Supervised]) -> None:
    one = supervise(web=FAIL, beta=TELL_AND_STAY)
    assert one.process.wait(DEADLINE_SECONDS) == 1
    assert re.search(r"web ended by itself with exit code 3, for the 5th time .*\n    the reason\n", one.text())
    assert not any(alive(pid) for pid in one.pids("beta"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_a_killed_supervisor_leaves_no_process(supervise: Callable[..., Supervised]) -> None:
    one = supervise(alpha=TELL_AND_STAY, beta=TELL_AND_STAY)
    one.wait_for(lambda: len(one.pids("alpha")) == 1 and len(one.pids("beta")) == 1)
    one.process.kill()
    one.wait_for(lambda: not any(alive(pid) for pid in one.pids("alpha") + one.pids("beta")))


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(SupervisorError, match="process web needs `no-such-program`, which is not installed"):
        run({"web": "no-such-program serve"}, environments={"web": {"PATH": "/nowhere"}}, say=lambda _line: None)
