"""The child: locks itself in, then imports what reads the file, reads it, and says what it found.

It reads one task from its standard input and speaks on its standard output, one message a line.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from workers.inspection.confinement import ParentGone, confine
from workers.inspection.limits import KIB, THUMBNAIL_BYTES_MAX
from workers.inspection.messages import TEXT_NAME, THUMBNAIL_NAME, Layer, Task, Voice
from workers.inspection.refusals import (
    DAMAGED,
    NOT_LOCKED_IN,
    OUT_OF_DEPTH,
    UNAVAILABLE,
    Refusal,
    Unreadable,
    out_of_memory,
)

FILE_BYTES_SPARE = 64 * KIB
"""A result may be written to its limit without running into that of the kernel."""

READER = "workers.inspection.dispatch"
"""What is imported behind the locks, and imports the parsers."""

NOT_THE_FILES_FAULT = {errno.ENOENT, errno.EACCES, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE}


def main() -> None:
    """Do one task and end, without the interpreter's long farewell."""
    task = Task(**json.load(sys.stdin))
    voice = Voice(os.dup(sys.stdout.fileno()))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdin, sys.stdout, sys.stderr):  # a library that prints does not talk to our parent
        os.dup2(nowhere, stream.fileno())
    # Opened here, because nothing can be opened for writing behind the locks.
    with Path(TEXT_NAME).open("wb") as text, Path(THUMBNAIL_NAME).open("wb") as thumbnail:
        file_bytes_max = max(task.text_bytes_max, THUMBNAIL_BYTES_MAX) + FILE_BYTES_SPARE
        try:
            layers = confine(Path(task.source), file_bytes_max=file_bytes_max, parent=task.parent)
        except ParentGone:
            os._exit(1)
        voice.locked_in(layers)
        missing = sorted(set(Layer) - set(layers))
        if missing and not task.may_be_weak:
            voice.refused(Refusal.NOT_LOCKED_IN, NOT_LOCKED_IN, cause=f"without {' '.join(missing)}")
        else:
            _read(task, voice, text, thumbnail)
    os._exit(0)


def _read(task: Task, voice: Voice, text: BinaryIO, thumbnail: BinaryIO) -> None:
    """Read the file and say what it is, or why that is not to be had."""
    try:
        import_module(READER).read(task, voice, text, thumbnail)
    except BaseException as error:  # noqa: BLE001 - bytes of a stranger raise anything in a parser, Rust's panics too
        voice.refused(*_reason(error, Path(task.source)), cause=type(error).__name__)


def _reason(error: BaseException, source: Path) -> tuple[Refusal, str]:
    match error:
        case Unreadable():
            return error.code, error.sentence
        case MemoryError():
            return out_of_memory(source.stat().st_size)
        case RecursionError():
            return Refusal.TOO_COMPLEX, OUT_OF_DEPTH
        case ImportError():
            return Refusal.UNAVAILABLE, UNAVAILABLE
        case OSError() if error.errno in NOT_THE_FILES_FAULT:
            return Refusal.UNAVAILABLE, UNAVAILABLE
        case _:
            return Refusal.DAMAGED, DAMAGED
