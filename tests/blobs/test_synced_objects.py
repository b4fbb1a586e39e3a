"""What `put` has returned from is on the disk: its bytes, its name, and the name of its folder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.blobs import BlobStore, new_key
from service.ids import new_id


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


def inode(path: Path) -> int:
    return path.stat().st_ino


@pytest.mark.parametrize("content", [[b"small"], [b"x" * 3_000_000] * 4], ids=["one request", "in parts"])
async def test_an_object_is_synced_with_the_folders_that_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: list[bytes]
):
    synced: dict[int, int] = {}
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fsync", watched)
    store, key = BlobStore(None, tmp_path), new_key(new_id())
    store.open()

    await store.put(key, pieces(*content))

    path = tmp_path / key
    assert synced[inode(path)] == sum(map(len, content))
    assert synced.keys() >= {inode(path.parent), inode(tmp_path)}
