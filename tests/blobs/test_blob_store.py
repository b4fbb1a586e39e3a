"""Objects in a local folder and in a bucket: the same behaviour, and nothing is left of what failed."""

from __future__ import annotations

import asyncio
import re
import stat
from array import array
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from eventually import until
from places import KINDS, Place, pieces, read

from service import blobs
from service.blobs import PUT_CHUNK_BYTES, BlobMissing, BlobStore, new_key
from service.domain.errors import StorageFull, StorageUnavailable
from service.ids import new_id

MEBIBYTE = 1024 * 1024


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        metafunc.parametrize("place", KINDS, indirect=True)


@pytest.fixture
def key() -> str:
    return new_key(new_id())


def bytes_of(size: int) -> bytes:
    """Bytes that differ from place to place, so that a wrong range shows."""
    return array("Q", range(-(-size // 8))).tobytes()[:size]


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        MEBIBYTE // 2,
        MEBIBYTE // 2 + 1,
        PUT_CHUNK_BYTES - 1,
        PUT_CHUNK_BYTES,
        PUT_CHUNK_BYTES + 1,
        2 * PUT_CHUNK_BYTES + 1,
    ],
)
async def test_an_object_comes_back_whole_and_in_ranges(place: Place, key: str, size: int):
    content = bytes_of(size)

    await place.store.put(key, pieces(content))

    assert await read(place.store, key, 0, size) == content
    assert place.named(key) == {key}
    for start, end in [(0, min(1, size)), (size // 2, size), (max(0, size - 1), size), (size // 3, size // 3)]:
        assert await read(place.store, key, start, end) == content[start:end]


async def test_pieces_may_have_any_size_and_be_nothing(place: Place, key: str):
    async def odd() -> AsyncIterator[bytes]:
        for piece in (b"", b"a", b"", b"bc", b"x" * PUT_CHUNK_BYTES, b"", b"d"):
            yield piece

    await place.store.put(key, odd())

    assert await read(place.store, key, 0, PUT_CHUNK_BYTES + 4) == b"abc" + b"x" * PUT_CHUNK_BYTES + b"d"


class SourceBroke(Exception):
    """What the source of an upload raises."""


@pytest.mark.parametrize("sent", [0, 1, MEBIBYTE, PUT_CHUNK_BYTES + 1, 3 * PUT_CHUNK_BYTES + 1])
async def test_a_source_that_breaks_is_heard_and_leaves_nothing(place: Place, key: str, sent: int):
    async def breaking() -> AsyncIterator[bytes]:
        async for piece in pieces(bytes_of(sent)):
            yield piece
        raise SourceBroke

    with pytest.raises(SourceBroke):
        await place.store.put(key, breaking())

    await until(lambda: not place.named(key))
    with pytest.raises(BlobMissing):
        await place.store.get(key, 0, 1)


@pytest.mark.parametrize("sent", [0, MEBIBYTE, 3 * PUT_CHUNK_BYTES + 1])
async def test_an_upload_that_is_cut_off_is_no_object(place: Place, key: str, sent: int):
    waiting = asyncio.Event()

    async def silent() -> AsyncIterator[bytes]:
        async for piece in pieces(bytes_of(sent)):
            yield piece
        waiting.set()
        await asyncio.Event().wait()

    putting = asyncio.create_task(place.store.put(key, silent()))
    await waiting.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting

    with pytest.raises(BlobMissing):
        await place.store.get(key, 0, 1)
    if place.folder is not None:  # a bucket forgets the parts of an upload that was cut off by a rule of its own
        await until(lambda: not place.named(key))


async def test_an_object_that_is_not_there_is_missing_and_can_be_deleted(place: Place, key: str):
    with pytest.raises(BlobMissing):
        await place.store.get(key, 0, 1)

    await place.store.delete(key)


async def test_a_deleted_object_is_gone_and_no_other(place: Place, key: str):
    other = new_key(new_id())
    for each in (key, other):
        await place.store.put(each, pieces(b"content"))

    await place.store.delete(key)
    await place.store.delete(key)

    assert place.named(key) == set()
    with pytest.raises(BlobMissing):
        await place.store.get(key, 0, 7)
    assert await read(place.store, other, 0, 7) == b"content"


async def test_a_download_that_began_before_its_object_was_deleted_is_whole_or_breaks(place: Place, key: str):
    content = bytes_of(20 * MEBIBYTE)
    await place.store.put(key, pieces(content))
    chunks = await place.store.get(key, 0, len(content))
    received = bytes(await anext(chunks))

    await place.store.delete(key)
    try:
        async for chunk in chunks:
            received += chunk
        is_whole = True
    except StorageUnavailable:
        is_whole = False

    assert content.startswith(received)
    assert is_whole is (received == content)


async def test_an_object_is_copied_into_a_file(place: Place, key: str, tmp_path: Path):
    content = bytes_of(3 * MEBIBYTE)
    await place.store.put(key, pieces(content))

    await place.store.download(key, len(content), tmp_path / "copy")

    assert (tmp_path / "copy").read_bytes() == content
    with pytest.raises(BlobMissing):
        await place.store.download(new_key(new_id()), 1, tmp_path / "none")


async def test_objects_are_written_at_once_without_meeting(place: Place):
    contents = {new_key(new_id()): bytes_of(MEBIBYTE + number) for number in range(10)}

    await asyncio.gather(*(place.store.put(key, pieces(content)) for key, content in contents.items()))

    assert {key: await read(place.store, key, 0, len(content)) for key, content in contents.items()} == contents


def test_keys_are_made_here_and_never_twice():
    keys = {new_key(new_id()) for _ in range(10_000)}

    assert len(keys) == 10_000
    assert all(re.fullmatch("([0-9a-f]{2})/[0-9a-f]{30}\\1", key) for key in keys)
    assert len({key[:2] for key in keys}) == 256


async def test_the_folder_is_its_owners_alone(tmp_path: Path):
    folder = tmp_path / "a" / "files"
    store = BlobStore(None, folder)
    store.open()
    store.open()

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_what_a_killed_upload_has_staged_goes_with_its_key(tmp_path: Path, key: str):
    store = BlobStore(None, tmp_path)
    store.open()
    (tmp_path / key).parent.mkdir()
    for name in (f"{key}#1", f"{key}#2"):
        (tmp_path / name).write_bytes(b"half")
    other = tmp_path / f"{key[:-1]}#1"
    other.write_bytes(b"half of another")

    await store.delete(key)

    assert list((tmp_path / key).parent.iterdir()) == [other]


@pytest.mark.parametrize("url", [None, "s3://bucket/prefix"])
async def test_a_store_that_was_not_opened_is_unavailable(tmp_path: Path, key: str, url: str | None):
    with pytest.raises(StorageUnavailable):
        await BlobStore(url, tmp_path).get(key, 0, 1)


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(StorageUnavailable, match=r"cannot be opened \(\w+\)\.$"):
        BlobStore(None, tmp_path / "file" / "files").open()


@pytest.fixture
def cut_off(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[BlobStore]:
    """A store that was there and is away now: its folder is not a folder, its bucket's server does not listen."""
    if place.folder is not None:
        place.folder.rename(tmp_path / "elsewhere")
        place.folder.write_bytes(b"")
        yield place.store
        return
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(blobs, "_retry_config", lambda: {"max_retries": 0})
    store = BlobStore("s3://bucket/prefix", tmp_path)
    store.open()
    yield store


async def test_a_store_that_is_away_is_unavailable(cut_off: BlobStore, key: str):
    calls: list[Any] = [
        lambda: cut_off.put(key, pieces(b"content")),
        lambda: cut_off.put(key, pieces(bytes_of(PUT_CHUNK_BYTES + 1))),
        lambda: cut_off.get(key, 0, 1),
        lambda: cut_off.delete(key),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailable):
            await call()


@pytest.mark.parametrize("size", [3 * MEBIBYTE, 3 * PUT_CHUNK_BYTES])
async def test_a_disk_that_is_full_is_said_and_takes_files_again_once_there_is_room(
    full_disk: Path, key: str, size: int
):
    store = BlobStore(None, full_disk / "files")
    store.open()
    first, third = new_key(new_id()), new_key(new_id())
    await store.put(first, pieces(bytes_of(MEBIBYTE)))

    with pytest.raises(StorageFull):
        await store.put(key, pieces(bytes_of(size)))

    left = [path for path in (full_disk / "files").rglob("*") if path.is_file()]
    assert left == [full_disk / "files" / first]
    assert await read(store, first, 0, MEBIBYTE) == bytes_of(MEBIBYTE)
    await store.delete(first)
    await store.put(third, pieces(bytes_of(MEBIBYTE)))
    assert await read(store, third, 0, MEBIBYTE) == bytes_of(MEBIBYTE)
