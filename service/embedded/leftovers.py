"""Finds processes that a killed run left in a folder, so that stale files are never taken for a live server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from service.embedded.child import POLL_SECONDS
from service.embedded.errors import EmbeddedError

LEAVE_WAIT_SECONDS = 10.0  # a fast shutdown writes one checkpoint; orphaned backends notice within a second


def clear(folder: Path, pid_file: Path, stop_signal: signal.Signals, say: Callable[[str], None]) -> None:
    """Wait until no server process works in `folder`, telling the main one to stop.

    Raises EmbeddedError when one stays. A pid alone proves nothing: it may belong to another program by now, and a
    dead process that nobody has reaped still answers to signals; only a process at work in this very folder counts.
    """
    main_pid = _pid_in(pid_file)
    left = _working_in(folder, main_pid)
    if not left:
        return
    say(f"Waiting for the server of an earlier run to leave {folder.name}")
    if main_pid in left:
        os.kill(main_pid, stop_signal)
    deadline = time.monotonic() + LEAVE_WAIT_SECONDS
    while left := _working_in(folder, main_pid):
        if time.monotonic() > deadline:
            pids = ", ".join(str(pid) for pid in sorted(left))
            raise EmbeddedError(f"Another server still works in {folder} (process {pids}): stop it first.")
        time.sleep(POLL_SECONDS)


def _pid_in(pid_file: Path) -> int:
    """Read the pid on the first line, 0 when there is none."""
    try:
        return int(pid_file.read_text(encoding="utf-8", errors="replace").split("\n", 1)[0])
    except (OSError, ValueError):
        return 0


def _working_in(folder: Path, main_pid: int) -> set[int]:
    if sys.platform == "linux":
        here = folder.resolve()
        entries = (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
        return {int(entry.name) for entry in entries if _working_folder(entry) == here}
    if main_pid <= 0:
        return set()
    # No /proc: look at the one process that the file names. Both servers show a path of ours in their title.
    shown = subprocess.run(["/bin/ps", "-o", "stat=,command=", "-p", str(main_pid)], capture_output=True, check=False)  # noqa: S603 - fixed
    line = shown.stdout.decode(errors="replace").strip()
    return {main_pid} if str(folder.parent) in line and not line.startswith("Z") else set()


def _working_folder(process: Path) -> Path | None:
    try:
        return (process / "cwd").readlink()
    except OSError:  # ended, a zombie, or another user's
        return None
