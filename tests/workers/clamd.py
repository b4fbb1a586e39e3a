"""A scanner that speaks clamd's INSTREAM and says what a test wants: its verdict, after its own time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

EICAR = rb"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
"""The harmless file that every scanner takes for a virus."""

CLEAN = b"stream: OK\0"
FOUND = b"stream: Win.Test.EICAR_HDB-1 FOUND\0"


class Clamd:
    """What it was sent, and what it answers; it waits for `may_answer`."""

    def __init__(self) -> None:
        self.address = ("127.0.0.1", 0)
        self.seen: list[bytes] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.holds: bytes | None = None
        """What it waits over: content in which this is found; None: all."""
        self.answer: bytes | None = None
        """None: what a scanner would say."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            assert await reader.readexactly(10) == b"zINSTREAM\0"
            content = b""
            while length := int.from_bytes(await reader.readexactly(4), "big"):
                content += await reader.readexactly(length)
            self.seen.append(content)
            if self.holds is None or self.holds in content:
                await self.may_answer.wait()
            writer.write(self.answer if self.answer is not None else FOUND if EICAR in content else CLEAN)
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def scanning() -> AsyncIterator[Clamd]:
    """A scanner on a port of its own."""
    clamd = Clamd()
    server = await asyncio.start_server(clamd.serve, "127.0.0.1", 0)
    clamd.address = server.sockets[0].getsockname()
    try:
        yield clamd
    finally:
        clamd.may_answer.set()
        server.close()
        await server.wait_closed()
