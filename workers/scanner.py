"""A virus scanner on the network: clamd's INSTREAM command (man page clamd(8), section COMMANDS)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import BinaryIO

CHUNK_BYTES = 64 * 1024
SECONDS_MAX = 60.0
"""A scanner that takes longer over 100 MiB is in trouble."""

ANSWER_BYTES_MAX = 4096
LENGTH_BYTES = 4
FOUND = re.compile(rb"stream: (?P<name>.{1,200}) FOUND")


class ScannerAway(Exception):
    """The scanner cannot be reached, or gives no verdict."""


async def verdict_on(path: Path, address: tuple[str, int]) -> str | None:
    """The name of what the scanner found in a file; None: nothing.

    Raises:
        ScannerAway.
    """
    try:
        async with asyncio.timeout(SECONDS_MAX):
            reader, writer = await asyncio.open_connection(*address, limit=ANSWER_BYTES_MAX)
            try:
                with await asyncio.to_thread(path.open, "rb") as file:
                    await _send(file, writer)
                answer = await reader.readuntil(b"\0")
            finally:
                writer.close()
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ScannerAway(type(error).__name__) from error
    verdict = answer.rstrip(b"\0 \n")
    if verdict == b"stream: OK":
        return None
    found = FOUND.fullmatch(verdict)
    if found is None:  # such as "INSTREAM size limit exceeded. ERROR"
        raise ScannerAway(verdict.decode("ascii", "replace")[:200])
    return found["name"].decode("utf-8", "replace")


async def _send(file: BinaryIO, writer: asyncio.StreamWriter) -> None:
    writer.write(b"zINSTREAM\0")
    while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
        writer.write(len(chunk).to_bytes(LENGTH_BYTES, "big") + chunk)
        await writer.drain()
    writer.write(bytes(LENGTH_BYTES))
    await writer.drain()
