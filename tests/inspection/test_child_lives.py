"""How a child ends: of itself, killed, hanging, lying, orphaned. Each has its reason, and nothing stays behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from eventually import DEADLINE_SECONDS, wait_until
from pdf_documents import many_pages, one_page
from processes import alive
from reports import names_in, text_of

from workers.inspection import inspect as parent
from workers.inspection.inspect import InspectionFailed, inspect
from workers.inspection.refusals import Refusal

WORDS = b" ".join(b"(Line %d of words that take their time) Tj T*" % line for line in range(400))
SLOW_PDF = many_pages(2000, b"BT /F1 2 Tf 2 TL 72 790 Td " + WORDS + b" ET")
"""Seconds of work, with progress to be told."""

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


def children_of(pid: int) -> Iterator[int]:
    """Which inspections of a process are running; zombies are not."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and b"workers.inspection.child" in (entry / "cmdline").read_bytes():
                state, ppid = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(ppid) == pid and state != "Z":
                    yield int(entry.name)
        except OSError:
            continue  # it has just ended


def signal_children(number: signal.Signals) -> Callable[[float], None]:
    """What to do at the first progress."""

    def send(_: float) -> None:
        for child in children_of(os.getpid()):
            os.kill(child, number)

    return send


@ON_LINUX
@pytest.mark.parametrize(
    ("number", "code", "is_transient"),
    [
        (signal.SIGSEGV, Refusal.CRASHED, False),
        (signal.SIGBUS, Refusal.CRASHED, False),
        (signal.SIGILL, Refusal.CRASHED, False),
        (signal.SIGXCPU, Refusal.TOO_COMPLEX, False),
        (signal.SIGKILL, Refusal.STOPPED, True),
        (signal.SIGTERM, Refusal.STOPPED, True),
    ],
)
async def test_a_child_that_is_struck_down_is_a_failure_with_its_reason(look, number, code, is_transient):
    with pytest.raises(InspectionFailed) as failed:
        await look(SLOW_PDF, report_progress=signal_children(number))

    assert (failed.value.code, failed.value.is_transient) == (code, is_transient)
    assert failed.value.content_type == "application/pdf"
    assert failed.value.sentence


@ON_LINUX
async def test_a_child_that_hangs_is_ended_when_its_time_is_over(look, monkeypatch):
    monkeypatch.setattr(parent, "WALL_SECONDS_MAX", 1.5)
    with pytest.raises(InspectionFailed) as failed:
        await look(SLOW_PDF, report_progress=signal_children(signal.SIGSTOP))

    assert failed.value.code == Refusal.TOO_COMPLEX
    assert list(children_of(os.getpid())) == []


@ON_LINUX
async def test_cancelling_ends_the_child_and_leaves_nothing(tmp_path):
    source, output = tmp_path / "source", tmp_path / "output"
    source.write_bytes(SLOW_PDF)
    output.mkdir()
    at_work = asyncio.Event()
    task = asyncio.create_task(
        inspect(source, filename="a.pdf", declared="", output=output, report_progress=lambda _: at_work.set())
    )
    await asyncio.wait_for(at_work.wait(), DEADLINE_SECONDS)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert list(children_of(os.getpid())) == []
    assert names_in(output) == []


async def test_an_error_of_the_one_who_hears_of_progress_ends_the_child_and_comes_through(look):
    def complain(_: float) -> None:
        raise TimeoutError("lease lost")

    with pytest.raises(TimeoutError, match="lease lost"):
        await look(SLOW_PDF, report_progress=complain)

    assert list(children_of(os.getpid())) == []


@ON_LINUX
def test_a_child_dies_with_its_parent(tmp_path):
    source, output = tmp_path / "source", tmp_path / "output"
    source.write_bytes(SLOW_PDF)
    output.mkdir()
    program = textwrap.dedent(
        """
        import asyncio, sys
        from pathlib import Path
        from workers.inspection.inspect import inspect
        asyncio.run(inspect(Path(sys.argv[1]), filename="a", declared="", output=Path(sys.argv[2]),
                            report_progress=lambda _: print("at work", flush=True)))
        """
    )
    worker = subprocess.Popen([sys.executable, "-c", program, source, output], stdout=subprocess.PIPE, cwd=parent.ROOT)
    try:
        assert worker.stdout.readline() == b"at work\n"
        (child,) = children_of(worker.pid)
    finally:
        worker.kill()
        worker.wait()
        worker.stdout.close()

    wait_until(lambda: not alive(child))


FOUND = 'print(\'{"type":"found","content_type":"text/plain"}\')\n'
UNDERSTOOD = 'print(\'{"type":"understood","properties":{%s},"has_text":true,"has_thumbnail":false}\')\n'


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("", Refusal.UNAVAILABLE),
        ("raise SystemExit(1)", Refusal.UNAVAILABLE),
        ("print('hello')", Refusal.CRASHED),
        ("print('x' * 10**7)", Refusal.CRASHED),
        ("while True: print('x' * 1000)", Refusal.CRASHED),
        ("print('[' * 10000)", Refusal.CRASHED),
        ('print(\'{"type":"progress","done":7}\')', Refusal.CRASHED),
        ('print(\'{"type":"found","content_type":"text/html\\\\r\\\\nX: y"}\')', Refusal.CRASHED),
        (FOUND + "open('text.txt', 'wb').write(b'a')\n" + UNDERSTOOD % '"language":"\\\\u0000"', Refusal.CRASHED),
        (FOUND + "open('text.txt', 'wb').write(b'a')\n" + UNDERSTOOD % '"width":-1', Refusal.CRASHED),
        (FOUND + UNDERSTOOD % "", Refusal.CRASHED),
        (UNDERSTOOD % "", Refusal.CRASHED),
        (FOUND + "open('text.txt', 'wb').write(b'a\\0')\n" + UNDERSTOOD % "", Refusal.CRASHED),
        (FOUND + "open('text.txt', 'wb').write(b'\\xff')\n" + UNDERSTOOD % "", Refusal.CRASHED),
        (FOUND + "open('text.txt', 'wb').write(b'a' * 10**7)\n" + UNDERSTOOD % "", Refusal.CRASHED),
        (FOUND + "import os; os.symlink('/etc/passwd', 'text.txt')\n" + UNDERSTOOD % "", Refusal.CRASHED),
        (FOUND + "import os; os.mkfifo('text.txt')\n" + UNDERSTOOD % "", Refusal.CRASHED),
        (FOUND + "import os; open('x', 'w').write('a'); os.link('x', 'text.txt')\n" + UNDERSTOOD % "", Refusal.CRASHED),
    ],
)
async def test_a_child_that_somebody_else_has_taken_over_is_not_believed(tmp_path, monkeypatch, program, code):
    source, output = tmp_path / "source", tmp_path / "output"
    source.write_bytes(b"a")
    output.mkdir()
    monkeypatch.setattr(parent, "COMMAND", (sys.executable, "-I", "-S", "-c", program))
    with pytest.raises(InspectionFailed) as failed:
        await inspect(source, filename="a", declared="", output=output)

    assert failed.value.code == code
    assert "text.txt" not in names_in(output)


async def test_a_child_that_says_no_more_and_does_not_end_is_ended(tmp_path, monkeypatch):
    (tmp_path / "output").mkdir()
    silent = "import os, time; os.close(1); time.sleep(600)"
    monkeypatch.setattr(parent, "COMMAND", (sys.executable, "-I", "-S", "-c", silent))
    monkeypatch.setattr(parent, "WALL_SECONDS_MAX", 0.5)
    with pytest.raises(InspectionFailed) as failed:
        await inspect(tmp_path / "source", filename="a", declared="", output=tmp_path / "output")

    assert failed.value.code == Refusal.TOO_COMPLEX


@pytest.mark.parametrize("what", ["source", "output", "interpreter"])
async def test_what_is_missing_here_is_no_fault_of_the_file(tmp_path, monkeypatch, what):
    source, output = tmp_path / "source", tmp_path / "output"
    if what != "source":
        source.write_bytes(b"a")
    if what != "output":
        output.mkdir()
    if what == "interpreter":
        monkeypatch.setattr(parent, "COMMAND", ("/nowhere/python",))
    with pytest.raises(InspectionFailed) as failed:
        await inspect(source, filename="a", declared="", output=output)

    assert failed.value.code == Refusal.UNAVAILABLE
    assert failed.value.is_transient


async def test_inspections_at_the_same_time_do_not_meet(look, tmp_path):
    sources = [tmp_path / str(number) for number in range(3)]
    for number, source in enumerate(sources):
        source.write_bytes(one_page(b"BT /F1 9 Tf 9 9 Td (Number %d) Tj ET" % number))
    reports = await asyncio.gather(*map(look, sources))

    assert [text_of(report) for report in reports] == ["Number 0\n\n", "Number 1\n\n", "Number 2\n\n"]
