"""Has a stranger's file inspected by a child that is locked in, and takes from the child only what it can check."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import msgspec

from service.domain.attachment import AttachmentType
from workers.inspection.answers import AnyAnswer, Found, LockedIn, Progress, Refused, Understood
from workers.inspection.kinds import attachment_type_of
from workers.inspection.limits import MESSAGE_BYTES_MAX, TEXT_BYTES_MAX, WALL_SECONDS_MAX
from workers.inspection.messages import TEXT_NAME, THUMBNAIL_NAME, Layer, Task
from workers.inspection.refusals import (
    CRASHED,
    OUT_OF_CPU,
    OUT_OF_TIME,
    STOPPED,
    TRANSIENT,
    UNAVAILABLE,
    Refusal,
    out_of_memory,
)
from workers.inspection.results import is_text, is_webp, remove

ROOT = str(Path(__file__).resolve().parents[2])
"""Where our packages are, for a child that sees nothing of our environment: site-packages, or a folder of sources."""

START = """
import sys
if sys.argv[1] not in sys.path: sys.path.insert(0, sys.argv[1])
from workers.inspection.child import main
main()
"""
COMMAND = (sys.executable, "-I", "-B", "-X", "utf8", "-c", START, ROOT)
"""Isolated from the environment and the current folder, and nothing is written beside the sources."""

ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
"""Nothing of ours. The memory limit counts addresses, of which glibc reserves 64 MiB for each of its arenas."""

FILENAME_CHARACTERS_MAX = 255
PROGRESS_STEP = 0.01
STOPPING = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}
"""What an operator, or a kernel without memory, ends a process with."""


class Report(msgspec.Struct, frozen=True):
    """What a file is, and what came out of it: `text` in UTF-8 and `thumbnail` in WebP lie in the output folder."""

    content_type: str
    attachment_type: AttachmentType
    properties: dict[str, str | int | float | bool]
    text: Path | None = None
    thumbnail: Path | None = None


class InspectionFailed(Exception):
    """Why a file was not understood. `content_type` and `attachment_type` are there if that much was found."""

    def __init__(self, code: Refusal, sentence: str, *, content_type: str | None = None, cause: str = "") -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.content_type = content_type
        self.attachment_type = attachment_type_of(content_type) if content_type else None
        self.cause = cause

    @property
    def is_transient(self) -> bool:
        """Whether it says nothing about the file, so that another attempt may well succeed."""
        return self.code in TRANSIENT


async def inspect(
    source: Path,
    *,
    filename: str,
    declared: str,
    output: Path,
    report_progress: Callable[[float], None] | None = None,
    text_bytes_max: int = TEXT_BYTES_MAX,
    may_be_weak: bool = False,
) -> Report:
    """Look into a local file; results go into the folder `output`, which nobody else uses meanwhile.

    The name and the declared type count only among kinds of text. Cancelling ends the child at once. Where some of the
    child's locks do not hold, the file is refused, unless it `may_be_weak`.

    Raises InspectionFailed, whatever the bytes do to the child.
    """
    task = _task(source, filename, declared, text_bytes_max, may_be_weak=may_be_weak)
    is_done = False
    try:
        report = await _inspect(task, output, _Heard(report_progress))
        is_done = True
    finally:
        if not is_done:
            remove(output / TEXT_NAME, output / THUMBNAIL_NAME)
    return report


async def locks_that_hold() -> frozenset[Layer]:
    """Which of its locks a child has on this machine: tried by one that is given an empty file."""
    with tempfile.TemporaryDirectory(prefix="holdfast-locks-") as folder:
        source = Path(folder) / "empty"
        source.touch()
        heard = _Heard(None)
        task = _task(source, "", "", 0, may_be_weak=False)
        with suppress(InspectionFailed):
            await _inspect(task, Path(folder), heard)
    return heard.layers or frozenset()


def _task(source: Path, filename: str, declared: str, text_bytes_max: int, *, may_be_weak: bool) -> Task:
    return Task(
        source=str(source.absolute()),
        filename=_clean(filename[-FILENAME_CHARACTERS_MAX:]),
        declared=_clean(declared[:FILENAME_CHARACTERS_MAX]),
        text_bytes_max=text_bytes_max,
        parent=os.getpid(),
        may_be_weak=may_be_weak,
    )


async def _inspect(task: Task, output: Path, heard: _Heard) -> Report:
    try:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            cwd=output,
            env=ENVIRONMENT,
            start_new_session=True,
            limit=MESSAGE_BYTES_MAX,
        )
    except OSError as error:
        raise InspectionFailed(Refusal.UNAVAILABLE, UNAVAILABLE, cause=type(error).__name__) from error
    try:
        async with asyncio.timeout(WALL_SECONDS_MAX) as deadline:
            await _listen(process, task, heard)
    except TimeoutError:
        if not deadline.expired():
            raise  # it is the callback's
    finally:
        await _end(process)
    if heard.understood is None:
        _fail(heard, process, task, is_late=deadline.expired())
    return await asyncio.to_thread(_checked_report, heard, heard.understood, output, task.text_bytes_max)


class _Heard:
    """What the child has said so far."""

    def __init__(self, report_progress: Callable[[float], None] | None) -> None:
        self.layers: frozenset[Layer] | None = None
        self.is_garbage = False
        self.content_type: str | None = None
        self.understood: Understood | None = None
        self.refused: Refused | None = None
        self._report_progress = report_progress
        self._progress = 0.0

    def take(self, answer: AnyAnswer) -> None:
        match answer:
            case LockedIn():
                self.layers = frozenset(answer.layers)
            case Found():
                self.content_type = answer.content_type
            case Progress():
                if self._report_progress and answer.done >= self._progress + PROGRESS_STEP:
                    self._progress = answer.done
                    self._report_progress(answer.done)
            case Understood():
                self.understood = answer
            case Refused():
                self.refused = answer


async def _listen(process: Process, task: Task, heard: _Heard) -> None:
    """Give the task and hear the child out, or until it talks nonsense."""
    commands, answers = _pipes(process)
    commands.write(msgspec.json.encode(task._asdict()))
    with suppress(ConnectionError):  # it ended before it listened: its exit code tells
        await commands.drain()
    commands.close()
    decoder = msgspec.json.Decoder(AnyAnswer)
    try:
        while (line := await answers.readline()).endswith(b"\n"):
            heard.take(decoder.decode(line))
    except (ValueError, msgspec.MsgspecError):  # a line too long, or no message
        heard.is_garbage = True
        heard.understood = None
        return
    await process.wait()


async def _end(process: Process) -> None:
    """End the child if it still lives, with all that it might have started, and leave no pipe open."""
    if process.returncode is None:
        with suppress(ProcessLookupError, PermissionError):  # macOS says the latter of one that has just ended
            os.killpg(process.pid, signal.SIGKILL)
    _, answers = _pipes(process)
    with suppress(ValueError):
        while await answers.read(MESSAGE_BYTES_MAX):
            pass
    await process.wait()


def _pipes(process: Process) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("The child was started without pipes.")
    return process.stdin, process.stdout


def _fail(heard: _Heard, process: Process, task: Task, *, is_late: bool) -> NoReturn:
    """Raise what ended the child without a result."""
    cause = ""
    if heard.is_garbage:
        code, sentence = Refusal.CRASHED, CRASHED
    elif is_late:
        code, sentence = Refusal.TOO_COMPLEX, OUT_OF_TIME
    elif heard.refused:
        code, sentence, cause = heard.refused.code, heard.refused.sentence, heard.refused.cause
    else:
        code, sentence = _meaning_of_exit(process.returncode or 0, task, is_locked_in=heard.layers is not None)
        cause = f"exit code {process.returncode}"
    raise InspectionFailed(code, sentence, content_type=heard.content_type, cause=cause)


def _meaning_of_exit(code: int, task: Task, *, is_locked_in: bool) -> tuple[Refusal, str]:
    if not is_locked_in and code >= 0:
        return Refusal.UNAVAILABLE, UNAVAILABLE
    if -code == signal.SIGXCPU:
        return Refusal.TOO_COMPLEX, OUT_OF_CPU
    if -code == signal.SIGABRT:  # how PDFium and Rust end when they get no memory
        return out_of_memory(Path(task.source).stat().st_size)
    if -code in STOPPING:
        return Refusal.STOPPED, STOPPED
    return Refusal.CRASHED, CRASHED


def _checked_report(heard: _Heard, understood: Understood, output: Path, text_bytes_max: int) -> Report:
    """The report, with results that are what they are said to be; what was not promised is removed."""
    text, thumbnail = output / TEXT_NAME, output / THUMBNAIL_NAME
    remove(*([] if understood.has_text else [text]), *([] if understood.has_thumbnail else [thumbnail]))
    content_type = heard.content_type or ""
    if (
        not content_type
        or (understood.has_text and not is_text(text, text_bytes_max))
        or (understood.has_thumbnail and not is_webp(thumbnail))
    ):
        raise InspectionFailed(Refusal.CRASHED, CRASHED, content_type=content_type or None, cause="untrue")
    return Report(
        content_type=content_type,
        attachment_type=attachment_type_of(content_type),
        properties=dict(understood.properties),
        text=text if understood.has_text else None,
        thumbnail=thumbnail if understood.has_thumbnail else None,
    )


def _clean(words: str) -> str:
    return words.encode(errors="replace").decode()
