"""Receivers that mean harm: however much they say, and however slowly, little of it is read and none is kept."""

from __future__ import annotations

import asyncio
import gzip
import ssl

import pytest
from receiver import Answer, Call, Receiver, answering

from workers import egress as module
from workers.connection import ANSWER_BYTES_MAX, BadAnswer, Connection
from workers.egress import Egress

READ_AT_ONCE_MAX = 256 * 1024
"""What an event loop takes from a socket in one go."""

BOMB_BYTES = 100_000_000


class Counted(Connection):
    """Adds up what it is given to read."""

    read_bytes: int = 0

    def data_received(self, data: bytes) -> None:
        self.read_bytes += len(data)
        super().data_received(data)


class Posting:
    """POSTs to one receiver; what came of it, and how much was read."""

    def __init__(self) -> None:
        self.connections: list[Counted] = []

    async def __call__(self, address: str, port: int, tls: ssl.SSLContext | None, name: str | None) -> Connection:
        loop = asyncio.get_running_loop()
        _, opened = await loop.create_connection(Counted, address, port, ssl=tls, server_hostname=name)
        self.connections.append(opened)
        return opened

    async def post(self, url: str) -> module.Answer:
        egress = Egress(allows_private=True, connect=self)
        try:
            return await egress.post(url, b"{}", {"webhook-id": "1"})
        finally:
            await egress.close()

    @property
    def read_bytes(self) -> int:
        return sum(connection.read_bytes for connection in self.connections)


def endless(head: bytes, chunk: bytes, seconds: float = 0) -> Answer:
    """Write for ever, until the other side has had enough."""

    async def answer(_call: Call, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(seconds)

    return answer


def saying(said: bytes) -> Answer:
    async def answer(_call: Call, _writer: asyncio.StreamWriter) -> bytes:
        return said

    return answer


async def bomb(_call: Call, _writer: asyncio.StreamWriter) -> bytes:
    packed = gzip.compress(bytes(BOMB_BYTES), compresslevel=1)
    return b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(packed), packed)


@pytest.mark.parametrize(
    "answer",
    [
        endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", b"x" * 65_536),
        endless(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"x" * 65_536 + b"\r\n"),
        endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536),
        bomb,
        answering(200, *(f"X-{number}: y" for number in range(1000))),
    ],
    ids=["a gigabyte", "chunks without end", "a body without end", "a gzip bomb", "a thousand headers"],
)
async def test_a_huge_answer_is_taken_by_its_status_and_read_in_part(answer: Answer):
    posting = Posting()
    async with Receiver(answer, keeps=True) as receiver:
        told = await posting.post(receiver.url)

    assert told.status == 200
    assert posting.read_bytes <= ANSWER_BYTES_MAX + READ_AT_ONCE_MAX
    assert len(posting.connections) == 1


@pytest.mark.parametrize(
    "answer",
    [
        endless(b"HTTP/1.1 200 OK\r\n", b"X-More: %b\r\n" % (b"x" * 1000)),
        endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        endless(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x" * 65_536),
        endless(b"HTTP/1.1 2", b"0" * 1000),
        endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 10),
        endless(b"", b"HTTP/1.1 103 Early Hints\r\nLink: </%b>\r\n\r\n" % (b"x" * 1000)),
    ],
    ids=["headers", "short headers", "one header", "a status line", "100 Continue", "early hints"],
)
async def test_a_head_without_end_is_no_answer(answer: Answer):
    posting = Posting()
    async with Receiver(answer) as receiver:
        with pytest.raises(BadAnswer):
            await posting.post(receiver.url)

    assert posting.read_bytes <= ANSWER_BYTES_MAX + READ_AT_ONCE_MAX


async def test_an_answer_that_drips_is_taken_by_its_status_and_then_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ANSWER_SECONDS_MAX", 0.1)
    posting = Posting()
    async with Receiver(endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", 0.01)) as receiver:
        told = await posting.post(receiver.url)

    assert told.status == 200
    assert not posting.connections[0].is_open


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 "])
async def test_headers_that_do_not_come_in_time_are_a_timeout(said: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ATTEMPT_SECONDS_MAX", 0.3)
    posting = Posting()
    async with Receiver(endless(said, b"2" if said else b"", 0.01)) as receiver:
        with pytest.raises(TimeoutError):
            await posting.post(receiver.url)

    assert not posting.connections[0].is_open


@pytest.mark.parametrize(
    "said",
    [
        b"\x00\xff garbage\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc Nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon here\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"x" * 1000) for n in range(1000)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5",
        b"",
    ],
)
async def test_what_is_no_answer_fails_as_one(said: bytes):
    async with Receiver(saying(said)) as receiver:
        with pytest.raises(BadAnswer):
            await Posting().post(receiver.url)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.0 204 OK\r\n\r\n",
        b"HTTP/1.1 204\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 204 OK\nX: y\n\n",
    ],
)
async def test_what_is_an_odd_answer_is_one(said: bytes):
    async with Receiver(saying(said)) as receiver:
        assert (await Posting().post(receiver.url)).status == 204
