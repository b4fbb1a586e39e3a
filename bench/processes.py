"""Starts the servers to be measured and reads what CPU they have used, from /proc (Linux)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
START_SECONDS_MAX = 120.0
POLL_SECONDS = 0.05


def free_port() -> int:
    """A TCP port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def start(module: str, port: int, environment: dict[str, str], ready_path: str, log: Path) -> subprocess.Popen[bytes]:
    """Start `python -m module` and wait until it answers."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=os.environ | environment | {"PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + START_SECONDS_MAX
    while not _answers(f"http://127.0.0.1:{port}{ready_path}"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{module} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(POLL_SECONDS)
    return process


def start_worker(queue: str, environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """Start the worker of a queue and wait until it works."""
    log = folder / f"worker-{queue}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "workers", queue],
            env=os.environ | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + START_SECONDS_MAX
    while "worker.started" not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the worker of {queue} did not start:\n{log.read_text()[-2000:]}")
        time.sleep(POLL_SECONDS)
    return process


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status < 500)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def cpu_seconds(pid: int) -> float:
    """CPU time of one process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def tree_cpu_seconds(pid: int) -> float:
    """CPU time of a process, its living children, and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    total = sum(int(ticks) for ticks in fields[11:15]) / TICKS_PER_SECOND
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                total += cpu_seconds(int(entry.name)) if int(parent) == pid else 0.0
            except (OSError, IndexError):
                continue
    return total


def resident_mb(pid: int) -> float:
    """Resident memory of a process, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_BYTES / 1e6
