"""Why a file was not understood: the codes, and a sentence for each that a person understands."""

from __future__ import annotations

from enum import StrEnum

from workers.inspection.limits import CPU_SECONDS_MAX, MEMORY_BYTES_MAX, MIB, RATIO_MAX, WALL_SECONDS_MAX


class Refusal(StrEnum):
    """The reason in one word; the last three say nothing about the file, which may well be understood another time."""

    DECOMPRESSION_LIMIT = "decompression_limit"
    DAMAGED = "damaged"
    ENCRYPTED = "encrypted"
    TOO_COMPLEX = "too_complex"
    CRASHED = "crashed"
    NOT_LOCKED_IN = "inspection_unavailable"
    STOPPED = "stopped"
    UNAVAILABLE = "unavailable"


TRANSIENT = frozenset({Refusal.STOPPED, Refusal.UNAVAILABLE})

OUT_OF_CPU = f"Reading this file takes more than {CPU_SECONDS_MAX} seconds of computing."
OUT_OF_TIME = f"Reading this file takes more than {WALL_SECONDS_MAX:.0f} seconds."
OUT_OF_MEMORY = f"Reading this file takes more than {MEMORY_BYTES_MAX // MIB} MiB of memory."
OUT_OF_DEPTH = "The parts of this file are nested too deeply."
UNPACKS_TOO_FAR = "The file unpacks to far more than its own size."
DAMAGED = "The file is damaged, cut off, or not what its first bytes say."
ENCRYPTED = "The file is protected by a password."
CRASHED = "The file makes the program that reads it break down; it is damaged, or made to do that."
STOPPED = "The inspection was stopped from outside before it was done."
NOT_LOCKED_IN = (
    "The file was not looked into, because the server that inspects files cannot lock itself in as it has to. "
    "Its operator finds out why with `holdfast doctor`; then the file can be retried."
)
UNAVAILABLE = "The inspection could not be started on this machine."


class Unreadable(Exception):
    """A file that is not understood, as the child says it."""

    def __init__(self, code: Refusal, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


def out_of_memory(size: int) -> tuple[Refusal, str]:
    """Tell what a file of `size` bytes is that takes all memory: a bomb if it grew a hundredfold, else a heavy one."""
    if size * RATIO_MAX < MEMORY_BYTES_MAX:
        return Refusal.DECOMPRESSION_LIMIT, UNPACKS_TOO_FAR
    return Refusal.TOO_COMPLEX, OUT_OF_MEMORY
