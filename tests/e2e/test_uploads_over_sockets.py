"""Files over real sockets: clients that lie, vanish and stall, a server that is killed, and memory that stays flat."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest
from stack import ANSWER_SECONDS_MAX, Stack, Web, wait_until

from service.domain.work import Queue

MEBIBYTE = 1024 * 1024
LARGE_BYTES = 100 * MEBIBYTE
GROWTH_BYTES_MAX = 20 * MEBIBYTE
"""The promise: a 100 MiB upload raises the web process by less."""

BOUNDARY = "limit"
HEAD = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'.encode()
TAIL = f"\r\n--{BOUNDARY}--\r\n".encode()
FORM_TYPE = f"multipart/form-data; boundary={BOUNDARY}"


@pytest.fixture
def web(stack: Stack) -> Web:
    return stack.webs[0]


@pytest.fixture
def files(open_session: Callable[..., str]) -> str:
    """The path to the files of a session that takes large ones."""
    return f"/api/v1/sessions/{open_session(config={'max_attachment_size': LARGE_BYTES})}/attachments"


class Connection:
    """A client that writes whatever it likes."""

    def __init__(self, web: Web, key: str) -> None:
        self._key = key
        self._socket = socket.create_connection(("127.0.0.1", web.port), timeout=ANSWER_SECONDS_MAX)
        self._read = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def begin(self, method: str, path: str, **headers: object) -> None:
        """Send a request's head."""
        wanted = {"Host": "holdfast", "Authorization": f"Bearer {self._key}"} | headers
        lines = [f"{method} {path} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in wanted.items())]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    def send(self, content: bytes) -> None:
        self._socket.sendall(content)

    def end(self) -> None:
        """Say that nothing more will come."""
        self._socket.shutdown(socket.SHUT_WR)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """The next answer: its status, its headers and its body."""
        head = self._until(b"\r\n\r\n").decode("latin-1")
        status, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = self._take(int(headers.get("content-length", 0)))
        return int(status.split()[1]), headers, body

    def is_closed(self) -> bool:
        """Whether the server has closed the connection."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def vanish(self) -> None:
        """Close in the middle of things, without a goodbye (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _until(self, end: bytes) -> bytes:
        while end not in self._read:
            received = self._socket.recv(65_536)
            assert received, f"closed after {self._read!r}"
            self._read += received
        head, _, self._read = self._read.partition(end)
        return head

    def _take(self, size: int) -> bytes:
        while len(self._read) < size:
            received = self._socket.recv(65_536)
            assert received, f"closed after {len(self._read)} of {size} bytes"
            self._read += received
        taken, self._read = self._read[:size], self._read[size:]
        return taken


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def let_uploads_be_due(stack: Stack) -> None:
    """Let the minutes pass after which an upload counts as given up that its process renews no more."""
    stack.ledger.rows("UPDATE loose_blobs SET due_at = clock_timestamp() WHERE NOT is_doomed")


def stored_files(stack: Stack) -> set[str]:
    folder = stack.folder / "files"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def kept_keys(stack: Stack) -> set[str]:
    return {row["key"] for row in stack.ledger.rows("SELECT key FROM blobs")}


def wait_until_nothing_is_left_over(stack: Stack) -> None:
    """Wait until the worker has deleted what nobody refers to, and no upload is on its way."""
    wait_until(lambda: stack.ledger.value("SELECT count(*) FROM loose_blobs") == 0, "no object is loose")
    assert stored_files(stack) == kept_keys(stack)
    assert stack.ledger.violations() == []


def bytes_on_their_way(stack: Stack) -> set[str]:
    """What uploads have written that are not finished."""
    return stored_files(stack) - kept_keys(stack)


def wait_until_bytes_came(stack: Stack) -> None:
    wait_until(lambda: bytes_on_their_way(stack), "an upload has begun to write")


WAYS = {
    "raw": ({"Content_Length": LARGE_BYTES}, b""),
    "form": ({"Content_Length": LARGE_BYTES, "Content_Type": FORM_TYPE}, HEAD),
    "chunked": ({"Transfer_Encoding": "chunked"}, b""),
}


def test_clients_that_go_away_in_the_middle_leave_nothing(stack: Stack, web: Web, key: str, files: str) -> None:
    for headers, first in WAYS.values():
        for leave in (Connection.close, Connection.vanish):
            content = first + b"x" * (12 * MEBIBYTE)
            client = Connection(web, key)
            client.begin("POST", files, **headers)
            client.send(chunk(content) if "Transfer_Encoding" in headers else content)
            wait_until_bytes_came(stack)

            leave(client)

            wait_until(lambda: not bytes_on_their_way(stack), "what had come is gone")
    wait_until_nothing_is_left_over(stack)
    with stack.client(key) as api:
        assert api.get(files.removeprefix("/api/v1")).json()["data"] == []
    assert '"request.broke"' not in web.log.read_text()


def test_an_upload_that_its_server_did_not_survive_is_cleared_away(
    stack: Stack, web: Web, key: str, files: str
) -> None:
    with Connection(web, key) as client:
        client.begin("POST", files, Content_Length=LARGE_BYTES)
        client.send(b"x" * (12 * MEBIBYTE))
        wait_until_bytes_came(stack)
        web.kill()
        assert client.is_closed()
    assert stack.ledger.value("SELECT count(*) FROM loose_blobs") == 1
    web.start()

    let_uploads_be_due(stack)

    wait_until_nothing_is_left_over(stack)
    assert stored_files(stack) == kept_keys(stack)


def test_who_asks_first_is_told_before_a_byte_is_sent(web: Web, key: str, open_session: Callable[..., str]) -> None:
    files = f"/api/v1/sessions/{open_session(config={'max_attachment_size': 1024})}/attachments"
    with Connection(web, key) as client:
        client.begin("POST", files, Content_Length=LARGE_BYTES, Expect="100-continue")

        status, _, body = client.answer()

        assert (status, json.loads(body)["code"]) == (413, "attachment_too_large")
    with Connection(web, key) as client:
        client.begin("POST", files, Content_Length=5, Expect="100-continue")
        assert client.answer()[0] == 100
        client.send(b"small")
        assert client.answer()[0] == 201


def test_the_length_that_was_announced_is_the_length_that_is_read(stack: Stack, web: Web, key: str, files: str) -> None:
    with Connection(web, key) as client:
        client.begin("POST", files, Content_Length=5)
        client.send(b"shortGET /health/live HTTP/1.1\r\nHost: holdfast\r\n\r\n")
        status, _, body = client.answer()

        assert (status, json.loads(body)["size"]) == (201, 5)
        assert client.answer()[0] == 200
        client.send(b"and then more")
        assert client.answer()[0] == 400
        assert client.is_closed()
    with Connection(web, key) as client:
        client.begin("POST", files, Content_Length=10)
        client.send(b"long")
        client.end()
        assert client.is_closed()
    wait_until_nothing_is_left_over(stack)
    with stack.client(key) as api:
        assert [file["size"] for file in api.get(files.removeprefix("/api/v1")).json()["data"]] == [5]


def test_a_download_that_is_broken_off_harms_nobody(stack: Stack, web: Web, key: str, files: str) -> None:
    content = bytes(range(256)) * 4096 * 20
    with stack.client(key) as api:
        file = api.post(files.removeprefix("/api/v1"), content=content).json()
    for _ in range(10):
        client = Connection(web, key)
        client.begin("GET", f"{files}/{file['id']}")
        client._until(b"\r\n\r\n")
        client.vanish()

    with stack.client(key) as api:
        answer = api.get(f"{files.removeprefix('/api/v1')}/{file['id']}")
    assert answer.content == content
    assert '"request.broke"' not in web.log.read_text()


def memory_of(pid: int, name: str) -> int:
    """A line of what Linux tells of a process's memory, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the most memory that a process had")
@pytest.mark.parametrize("way", WAYS)
def test_a_large_file_goes_in_and_out_and_the_server_grows_by_less_than_20_mib(
    stack: Stack, web: Web, key: str, files: str, way: str
) -> None:
    stack.worker_of(Queue.ATTACHMENTS).send(signal.SIGSTOP)
    try:
        block = bytes(range(256)) * 4096
        digest = hashlib.sha256()
        headers, first = WAYS[way]
        last = TAIL if way == "form" else b""
        if way != "chunked":
            headers = headers | {"Content_Length": len(first) + LARGE_BYTES + len(last)}
        with stack.client(key) as api:
            api.post(files.removeprefix("/api/v1"), content=b"so that all is loaded")
        Path(f"/proc/{web.pid}/clear_refs").write_text("5")  # the most so far is what it has now
        before = memory_of(web.pid, "VmRSS")

        with Connection(web, key) as client:
            client.begin("POST", files, **headers)
            client.send(first)
            for number in range(LARGE_BYTES // MEBIBYTE):
                content = number.to_bytes(4, "big") + block[4:]
                digest.update(content)
                client.send(chunk(content) if way == "chunked" else content)
            client.send(b"0\r\n\r\n" if way == "chunked" else last)
            status, _, body = client.answer()
        file = json.loads(body)
        assert (status, file["size"], file["sha256"]) == (201, LARGE_BYTES, digest.hexdigest())
        assert memory_of(web.pid, "VmHWM") - before < GROWTH_BYTES_MAX

        received = hashlib.sha256()
        with stack.client(key) as api, api.stream("GET", f"{files.removeprefix('/api/v1')}/{file['id']}") as download:
            for piece in download.iter_raw():
                received.update(piece)
        assert received.hexdigest() == digest.hexdigest()
        assert memory_of(web.pid, "VmHWM") - before < GROWTH_BYTES_MAX
    finally:
        stack.worker_of(Queue.ATTACHMENTS).send(signal.SIGCONT)


def test_ten_large_files_at_once_are_taken_whole(stack: Stack, web: Web, key: str, files: str) -> None:
    size = 20 * MEBIBYTE
    answers: list[tuple[int, str]] = [(0, "")] * 10

    def upload(number: int) -> None:
        with Connection(web, key) as client:
            client.begin("POST", files, Content_Length=size)
            for _ in range(size // MEBIBYTE):
                client.send(bytes([number]) * MEBIBYTE)
            status, _, body = client.answer()
        answers[number] = (status, json.loads(body).get("sha256", ""))

    threads = [threading.Thread(target=upload, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == [(201, hashlib.sha256(bytes([number]) * size).hexdigest()) for number in range(10)]
    wait_until_nothing_is_left_over(stack)
