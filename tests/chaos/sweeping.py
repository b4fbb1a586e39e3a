"""Ends and removes whatever a run leaves behind, should the harness itself be killed: run as a script, by the harness.

It waits for the end of its input, which comes with the end of the harness, however that ends.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 2.0
"""What processes get to end with their parent by themselves."""
ATTEMPTS = 20
PAUSE_SECONDS = 0.2


def main(home: Path) -> None:
    """Wait for the end, then take away the folder, unless that was done already."""
    sys.stdin.read()
    if not home.exists():
        return
    time.sleep(GRACE_SECONDS)
    # Where the servers' user cannot reach the folder, their data is elsewhere.
    folders = [str(home), *(moved.read_text().strip() for moved in home.rglob("moved-to"))]
    for _ in range(ATTEMPTS):
        for pid in living_in(folders):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        if not any(Path(folder).exists() for folder in folders) and not living_in(folders):
            return
        time.sleep(PAUSE_SECONDS)


def living_in(folders: list[str]) -> list[int]:
    """Processes that work in one of these folders, or were started with its name."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            place = str((process / "cwd").readlink())
            named = (process / "cmdline").read_bytes().decode(errors="replace")
            is_there = any(place.startswith(folder) or folder in named for folder in folders)
            if is_there and int(process.name) != os.getpid():
                found.append(int(process.name))
    return found


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    main(Path(sys.argv[1]))
