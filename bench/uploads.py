"""Uploads beside the least that a durable upload can cost: `cat file` through the same hash, a file and an fsync."""

from __future__ import annotations

import http.client
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import msgspec

from bench.processes import cpu_seconds

FILE_BYTES = 100 * 1024 * 1024
"""The largest file that a session may allow."""

READ_BYTES = 1024 * 1024

BARE = f"""
import hashlib, os, sys
digest = hashlib.sha256()
print("ready", flush=True)
with open(sys.argv[1], "wb") as file:
    while chunk := sys.stdin.buffer.read({READ_BYTES}):
        digest.update(chunk)
        file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
print(digest.hexdigest())
"""


class Upload(msgspec.Struct):
    """One file on its way: seconds until it was stored, CPU seconds of who stored it, growth of its memory in MB."""

    seconds: float
    cpu_seconds: float
    growth_mb: float = 0.0


def compare_uploads(folder: Path, port: int, pid: int, headers: dict[str, str], rounds: int) -> dict[str, object]:
    """Print and give the figures of raw and form uploads, and of the bare copy, in alternating rounds."""
    source = folder / "upload.bin"
    session = _open_session(port, headers)
    readings: dict[str, list[Upload]] = {"bare": [], "raw": [], "form": []}
    for _ in range(rounds + 1):  # the first one warms up, and is left out
        _fill(source)  # other bytes each time: equal content would be stored once
        readings["bare"].append(_bare(source, folder / "bare.bin"))
        readings["raw"].append(_upload(source, port, pid, session, headers, is_form=False))
        _fill(source)
        readings["form"].append(_upload(source, port, pid, session, headers, is_form=True))
    print(f"\n{'100 MiB in one upload':26}{'MB/s':>8}{'CPU s':>9}{'memory MB':>11}{'ratio':>8}")
    figures: dict[str, object] = {}
    bare = statistics.median(reading.seconds for reading in readings["bare"][1:])
    for name, found in readings.items():
        seconds = statistics.median(reading.seconds for reading in found[1:])
        cpu = statistics.median(reading.cpu_seconds for reading in found[1:])
        growth = max(reading.growth_mb for reading in found)
        shown = "" if name == "bare" else f"{growth:11.1f}{seconds / bare:8.2f}"
        print(f"{name:26}{FILE_BYTES / 1e6 / seconds:8.0f}{cpu:9.2f}{shown}")
        figures[name] = {"seconds": seconds, "cpu_seconds": cpu, "growth_mb": growth, "ratio": seconds / bare}
    return figures


def _fill(path: Path) -> None:
    with path.open("wb") as file:
        for _ in range(FILE_BYTES // READ_BYTES):
            file.write(os.urandom(READ_BYTES))


def _bare(source: Path, target: Path) -> Upload:
    # Started before the clock: a service is there already, too.
    storing = subprocess.Popen([sys.executable, "-c", BARE, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    storing.stdout.readline()
    cpu = _cpu_seconds_of_children()
    began = time.perf_counter()
    subprocess.run(["cat", str(source)], stdout=storing.stdin, check=True)  # noqa: S607 - whichever `cat` there is
    storing.communicate()
    return Upload(time.perf_counter() - began, _cpu_seconds_of_children() - cpu)


def _cpu_seconds_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _upload(source: Path, port: int, pid: int, session: str, headers: dict[str, str], *, is_form: bool) -> Upload:
    head, tail = b"", b""
    sent = headers | {"Content-Type": "application/octet-stream"}
    if is_form:
        head = b'--bench\r\nContent-Disposition: form-data; name="file"; filename="bench.bin"\r\n\r\n'
        tail = b"\r\n--bench--\r\n"
        sent = headers | {"Content-Type": "multipart/form-data; boundary=bench"}
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from here
    before, cpu = _peak_mb(pid), cpu_seconds(pid)
    connection = http.client.HTTPConnection("127.0.0.1", port)
    began = time.perf_counter()
    connection.putrequest("POST", f"/api/v1/sessions/{session}/attachments")
    for name, value in (sent | {"Content-Length": str(len(head) + FILE_BYTES + len(tail))}).items():
        connection.putheader(name, value)
    connection.endheaders(head)
    with source.open("rb") as file:
        connection.sock.sendfile(file)
    connection.send(tail)
    answer = connection.getresponse()
    answer.read()
    seconds = time.perf_counter() - began
    connection.close()
    if answer.status != http.client.CREATED:
        raise RuntimeError(f"the upload was answered with {answer.status}")
    return Upload(seconds, cpu_seconds(pid) - cpu, _peak_mb(pid) - before)


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def _open_session(port: int, headers: dict[str, str]) -> str:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/sessions",
        json.dumps({"agent_id": "bench", "config": {"max_attachment_size": FILE_BYTES}}).encode(),
        headers | {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        return str(json.load(answer)["id"])
