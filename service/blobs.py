"""Where the bytes of files are: a local folder or an S3 bucket, under keys that the server makes.

What `put` has returned from is on disk (local: synced, with its folder) or acknowledged by S3. Nothing here knows whose
a blob is; `store/blobs.py` keeps count.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from service import faults
from service.domain.errors import StorageFull, StorageUnavailable
from service.faults import Point

PUT_CHUNK_BYTES = 5 * 1024 * 1024
"""The least that S3 takes as a part of a larger upload."""

PUT_CHUNKS_AT_ONCE = 2
"""One is on its way while the next one fills: 10 MiB for each upload, whatever its size."""

GET_CHUNK_BYTES = 256 * 1024
"""Large enough to keep a download's cost per byte small, small enough for hundreds of slow readers."""

CONNECT_TIMEOUT = timedelta(seconds=5)
TRANSFER_TIMEOUT = timedelta(hours=1)
"""The client's time limit counts until the last byte of a stream, so it is that of the slowest reader."""

RETRY_TIMEOUT = timedelta(seconds=20)

NO_SPACE = re.compile(r"os error (28|122)\b|storage ?full|quota ?exceeded|no space left", re.IGNORECASE)
"""ENOSPC, EDQUOT, and what S3-compatible stores say when they are full."""

STAGED = "#"
"""`LocalStore` writes to `key#1` and renames; a process that was killed leaves such a file behind."""


class BlobMissing(Exception):
    """There is no object under this key."""


def new_key(blob_id: UUID) -> str:
    """A key for a new object: random in its last digits, so that folders stay small and S3 spreads the load."""
    name = blob_id.hex
    return f"{name[-2:]}/{name}"


class BlobStore:
    """Objects by key, in a local folder or in a bucket."""

    def __init__(self, url: str | None, folder: Path) -> None:
        self._url = url
        self._folder: Final = None if url else folder.absolute()
        self._store: ObjectStore | None = None

    def open(self) -> None:
        """Make the client, and the folder where it is local. An S3 bucket is not asked for anything yet.

        Raises:
            StorageUnavailable: the folder cannot be made, or the URL cannot be used.
        """
        try:
            if self._folder is None:
                self._store = from_url(self._url or "", client_options=_client_options(), retry_config=_retry_config())
            else:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._store = LocalStore(self._folder)
        except (OSError, ValueError, BaseError) as error:
            raise StorageUnavailable(f"The file storage cannot be opened ({type(error).__name__}).") from error

    async def put(self, key: str, chunks: AsyncIterator[bytes | bytearray]) -> None:
        """Store an object whole, or not at all; what `chunks` raises comes back as it is, and nothing is kept.

        A single chunk is one request to S3; more of them are an upload in parts, which takes two more.

        Raises:
            StorageFull, StorageUnavailable.
        """
        first, second = await anext(chunks, b""), await anext(chunks, None)
        whole = first if second is None else _chained(first, second, chunks)
        try:
            await obstore.put_async(
                self._opened(), key, whole, chunk_size=PUT_CHUNK_BYTES, max_concurrency=PUT_CHUNKS_AT_ONCE
            )
            if self._folder is not None:
                await asyncio.to_thread(_sync, self._folder / key)
        except (BaseError, OSError) as error:
            raise _trouble(error) from error
        faults.reach(Point.MID_UPLOAD)

    async def get(self, key: str, start: int, end: int) -> AsyncIterator[memoryview]:
        """The bytes from `start` up to, and without, `end`. Whether the object is there is known on return.

        Raises:
            BlobMissing, StorageUnavailable: also in the middle of the stream.
        """
        if end <= start:
            return _nothing()
        try:
            found = await obstore.get_async(self._opened(), key, options={"range": (start, end)})
        except FileNotFoundError as error:
            raise BlobMissing(key) from error
        except (BaseError, OSError) as error:
            raise _trouble(error) from error
        return _streamed(found)

    async def download(self, key: str, size: int, target: Path) -> None:
        """Copy an object into a local file.

        Raises:
            BlobMissing, StorageUnavailable, StorageFull.
        """
        chunks = await self.get(key, 0, size)
        with await asyncio.to_thread(target.open, "wb") as file:
            async for chunk in chunks:
                await asyncio.to_thread(file.write, chunk)

    async def delete(self, key: str) -> None:
        """Delete an object, and what an upload that was killed has left of it; one that is not there is no trouble.

        Raises:
            StorageUnavailable.
        """
        try:
            await obstore.delete_async(self._opened(), key)
        except FileNotFoundError:
            pass
        except (BaseError, OSError) as error:
            raise _trouble(error) from error
        if self._folder is not None:
            await asyncio.to_thread(_delete_staged, self._folder / key)

    def _opened(self) -> ObjectStore:
        if self._store is None:
            raise StorageUnavailable
        return self._store


def _client_options() -> Any:
    options: dict[str, Any] = {"connect_timeout": CONNECT_TIMEOUT, "timeout": TRANSFER_TIMEOUT}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if endpoint.startswith("http://"):  # whoever names such an endpoint means it
        options["allow_http"] = True
    return options


def _retry_config() -> Any:
    return {"max_retries": 5, "retry_timeout": RETRY_TIMEOUT}


def _sync(path: Path) -> None:
    """Make a new file survive a loss of power: its bytes, its name, and the name of its folder."""
    for place in (path, path.parent, path.parent.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _delete_staged(path: Path) -> None:
    for left in path.parent.glob(f"{path.name}{STAGED}*"):
        left.unlink(missing_ok=True)


def _trouble(error: Exception) -> StorageFull | StorageUnavailable:
    return StorageFull() if NO_SPACE.search(str(error)) else StorageUnavailable()


async def _chained(
    first: bytes | bytearray, second: bytes | bytearray, rest: AsyncIterator[bytes | bytearray]
) -> AsyncIterator[bytes | bytearray]:
    yield first
    yield second
    async for chunk in rest:
        faults.reach(Point.MID_UPLOAD)
        yield chunk


async def _streamed(found: Any) -> AsyncIterator[memoryview]:
    try:
        async for chunk in found.stream(min_chunk_size=GET_CHUNK_BYTES):
            yield memoryview(chunk)
    except (BaseError, OSError) as error:
        raise _trouble(error) from error


async def _nothing() -> AsyncIterator[memoryview]:
    for nothing in list[memoryview]():
        yield nothing
