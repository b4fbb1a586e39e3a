"""Where objects are kept, seen from behind: a local folder, or a bucket of the tests' own server."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2

from service.blobs import BlobStore

KINDS = ("folder", "bucket")
"""Of `place`, for `parametrize(…, indirect=True)`: a bucket's server in Python answers a hundred times as slowly."""
PIECE_BYTES = 512 * 1024


class Place:
    """A store, and a look behind it."""

    def __init__(self, store: BlobStore, folder: Path | None) -> None:
        self.store = store
        self.folder = folder

    def names(self) -> set[str]:
        """Whatever is kept there: objects, and parts of objects that were not finished."""
        if self.folder is not None:
            return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}
        endpoint = os.environ["AWS_ENDPOINT_URL"]
        listed = [
            httpx2.get(f"{endpoint}/bucket?{kind}&prefix={self.prefix}/", trust_env=False).text
            for kind in ("list-type=2", "uploads")
        ]
        return set(re.findall(f"<Key>{self.prefix}/([^<]*)</Key>", "".join(listed)))

    @property
    def prefix(self) -> str:
        return (self.store._url or "").rpartition("/")[2]

    def named(self, key: str) -> set[str]:
        """What is kept for one key."""
        return {name for name in self.names() if name.startswith(key)}


async def pieces(content: bytes, size: int = PIECE_BYTES) -> AsyncIterator[bytes]:
    """Content as it comes from a client."""
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def read(store: BlobStore, key: str, start: int, end: int) -> bytes:
    """The bytes of an object from `start` up to, and without, `end`."""
    return b"".join([bytes(chunk) async for chunk in await store.get(key, start, end)])
