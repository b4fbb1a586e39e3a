"""Uploads as clients send them, byte by byte, and what answers say of a file's name."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

BOUNDARY = "limit-of-a-part"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
PIECE_BYTES = 64 * 1024

ATTR_CHARS = "!#$&+-.^_`|~0-9A-Za-z"
DISPOSITION = re.compile(
    rf"attachment; filename=\"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\[\x20-\x7e])*)\"; "
    rf"filename\*=UTF-8''((?:[{re.escape(ATTR_CHARS).replace(chr(92) + '-', '-')}]|%[0-9A-Fa-f]{{2}})*)"
)
"""RFC 6266, section 4.1, and RFC 8187, section 3.2.1: nothing that the grammar does not have may stand there."""


def part(disposition: str | bytes, content: bytes = b"", *headers: str) -> bytes:
    """One part of a form; `disposition` is what stands behind `form-data; `."""
    said = disposition.encode() if isinstance(disposition, str) else disposition
    lines = [b"Content-Disposition: form-data; " + said, *(header.encode() for header in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + content


def form(*parts: bytes, end: bytes = b"--\r\n", boundary: str = BOUNDARY) -> bytes:
    """A whole form of these parts."""
    limit = b"--" + boundary.encode()
    return b"".join(limit + b"\r\n" + each + b"\r\n" for each in parts) + limit + end


def file_part(content: bytes, filename: str | None = None, content_type: str | None = None) -> bytes:
    """The field `file` as browsers write it (HTML, section 4.10.21.8)."""
    named = ""
    if filename is not None:
        escaped = filename.replace("\n", "%0A").replace("\r", "%0D").replace('"', "%22")
        named = f'; filename="{escaped}"'
    headers = [] if content_type is None else [f"Content-Type: {content_type}"]
    return part(f'name="file"{named}', content, *headers)


def named(filename: str) -> dict[str, str]:
    """The header that names a raw body, as API 5 has it."""
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(filename, safe='')}"}


def name_in(headers: Mapping[str, str]) -> str:
    """The name that an answer's Content-Disposition carries; fails where a strict reader would."""
    match = DISPOSITION.fullmatch(headers["content-disposition"])
    assert match is not None, headers["content-disposition"]
    plain = re.sub(r"\\(.)", r"\1", match[1])
    name = unquote_to_bytes(match[2]).decode()
    if name.isascii() and not set(name) & set('"\\%;') and name.isprintable():
        assert plain == name
    return name


async def pieces(content: bytes, size: int = PIECE_BYTES) -> AsyncIterator[bytes]:
    """Content that comes bit by bit, with a length that nobody knows before."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


class Exchange:
    """One request at the app itself, piece by piece: what the client sends when, and what it takes when."""

    def __init__(self, edge: Any, method: str, path: str, headers: Mapping[str, str]) -> None:
        self._edge = edge
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("holdfast.test", 80),
        }
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self._complete = asyncio.Event()

    @property
    def is_complete(self) -> bool:
        """Whether the answer was sent to its end."""
        return self._complete.is_set()

    async def nothing(self) -> dict[str, str]:
        """A client's side that sends nothing and stays until it has its answer."""
        await self._complete.wait()
        return {"type": "http.disconnect"}

    async def run(self, receive: Any, send: Any = None) -> None:
        """Serve the request; `receive` gives the client's messages, `send` is told of each of the server's."""

        async def keep(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.status = message["status"]
                self.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
            elif message["type"] == "http.response.body":
                self.body += message.get("body", b"")
            if send is not None:
                await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                self._complete.set()

        await self._edge(self._scope, receive, keep)
