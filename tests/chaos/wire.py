"""HTTP/1.1 as thin as a load needs it: a tenth of a full client's CPU, and a hand on the very connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec

CONNECTION, TIMEOUT, CUT = "connection", "timeout", "cut"


class NoAnswer(Exception):
    """There was no answer; where `may_have_arrived` is false, the request certainly had no effect."""

    def __init__(self, why: str, *, may_have_arrived: bool) -> None:
        super().__init__(why)
        self.why = why
        self.may_have_arrived = may_have_arrived


@dataclass(slots=True)
class Answer:
    """Status, headers (lower case) and body."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def document(self) -> dict[str, Any]:
        return dict(msgspec.json.decode(self.body))

    @property
    def code(self) -> str:
        """The code of a problem; empty for anything else."""
        if self.status < 400 or not self.headers.get("content-type", "").startswith("application/problem+json"):
            return ""
        return str(self.document.get("code", ""))


class Line:
    """One connection to one web process at a time, kept open between requests."""

    def __init__(self, port: int, authorization: str) -> None:
        self._port = port
        self._authorization = authorization
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._was_cut = False

    def cut(self) -> None:
        """Break the connection, whatever is on its way."""
        if self._writer is not None:
            self._was_cut = True
            self._writer.transport.abort()

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None, *, seconds: float
    ) -> Answer:
        """One request and its whole answer. Raises NoAnswer."""
        sent = False
        try:
            async with asyncio.timeout(seconds):
                reader, writer = await self._open()
                sent = True
                writer.write(self._head(method, path, headers or {}, len(body)) + body)
                await writer.drain()
                answer = await self._read_head(reader)
                if method != "HEAD" and answer.status not in {204, 304}:
                    answer.body = b"".join([piece async for piece in self._pieces(reader, answer)])
        except TimeoutError:
            self.close()
            raise NoAnswer(TIMEOUT, may_have_arrived=sent) from None
        except (OSError, asyncio.IncompleteReadError, ValueError):
            why = CUT if self._was_cut else CONNECTION
            self.close()
            raise NoAnswer(why, may_have_arrived=sent) from None
        except BaseException:
            self.close()
            raise
        if answer.headers.get("connection") == "close":
            self.close()
        return answer

    async def stream(self, path: str, headers: dict[str, str], *, silence: float) -> AsyncIterator[Answer | bytes]:
        """First the head, then the body as it comes. Raises NoAnswer when the line breaks or is silent for long."""
        try:
            async with asyncio.timeout(silence):
                reader, writer = await self._open()
                writer.write(self._head("GET", path, headers, 0))
                answer = await self._read_head(reader)
            yield answer
            pieces = self._pieces(reader, answer)
            while True:
                async with asyncio.timeout(silence):
                    piece = await anext(pieces, b"")
                if not piece:
                    return
                yield piece
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            raise NoAnswer(CUT if self._was_cut else type(error).__name__, may_have_arrived=True) from None
        finally:
            self.close()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None
        self._was_cut = False

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is not None and (self._reader.at_eof() or self._was_cut):
            self.close()
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 20)
        return self._reader, self._writer

    def _head(self, method: str, path: str, headers: dict[str, str], length: int) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self._port}", f"Authorization: {self._authorization}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if length or method not in {"GET", "HEAD"}:
            lines.append(f"Content-Length: {length}")
        return "\r\n".join([*lines, "", ""]).encode()

    @staticmethod
    async def _read_head(reader: asyncio.StreamReader) -> Answer:
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest if line)}
        return Answer(int(first.split(" ", 2)[1]), headers)

    @staticmethod
    async def _pieces(reader: asyncio.StreamReader, answer: Answer) -> AsyncIterator[bytes]:
        if answer.headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                yield (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)
        elif length := int(answer.headers.get("content-length", 0)):
            yield await reader.readexactly(length)
