"""Processes that tests start: their environment, what they started in turn, and whether they still run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LOG_TAIL_LINES = 40


def clean_environment(bytecode: Path | None = None, **settings: str) -> dict[str, str]:
    """Our environment without what would configure Holdfast, and with `settings`.

    Where Python may not keep what it compiles, each start takes two seconds: then it may keep it in `bytecode`.
    """
    configuring = ("HOLDFAST_", "DATABASE_URL", "REDIS_URL", "PG", "HOST", "PORT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(configuring)}
    if bytecode is not None:
        kept["PYTHONUNBUFFERED"] = "1"
        if sys.dont_write_bytecode:
            kept |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(bytecode)}
    return kept | settings


def listed() -> Iterator[tuple[int, int, str]]:
    """All processes of the machine that have not ended: pid, parent's pid, command line."""
    shown = subprocess.check_output(["ps", "-A", "-ww", "-o", "pid=,ppid=,stat=,args="], text=True)
    for line in shown.splitlines():
        pid, parent, stat, *args = line.split(None, 3)
        if not stat.startswith("Z"):
            yield int(pid), int(parent), "".join(args)


def processes_below(root: int) -> dict[int, str]:
    """All processes that a process started, and they in turn: by pid, with their command lines."""
    rows = list(listed())
    found: dict[int, str] = {}
    parents = {root}
    while parents:
        children = {pid: args for pid, parent, args in rows if parent in parents}
        found |= children
        parents = set(children)
    return found


def alive(pid: int | None) -> bool:
    """Whether a process runs; one that is dead and not yet reaped does not."""
    return any(pid == running for running, _, _ in listed())


def tail(log: Path) -> str:
    """The end of a log."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return "\n".join(line[:500] for line in lines[-LOG_TAIL_LINES:])
