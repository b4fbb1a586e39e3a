"""The folders in which files are looked into: each locked by its worker while it lives, and cleared away afterwards.

A folder without a lock belongs to no living worker, because the kernel releases the locks of a process that ends,
however it ends. That holds across containers that share the temporary folder, where process ids mean nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from service.log import get_logger

SCRATCH_PREFIX = "holdfast-inspection-"

LOG = get_logger("inspection")


@asynccontextmanager
async def scratch_folder() -> AsyncIterator[Path]:
    """A private folder of this worker, which is gone at the end of the block."""
    folder, lock = _locked_folder()  # not in a thread: cut off there, the folder would belong to no block
    try:
        yield folder
    finally:
        await asyncio.to_thread(_remove, folder, lock)


def _locked_folder() -> tuple[Path, int]:
    """A new folder and the descriptor that holds its lock; another one where a worker cleared it before the lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX))
        lock = _lock(folder)
        if lock is not None:
            return folder, lock


def _lock(folder: Path) -> int | None:
    """The descriptor that holds the lock on this folder; None where another one holds it, or the folder is gone."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_ours = os.path.samestat(os.fstat(lock), folder.lstat())
    except OSError:
        is_ours = False
    if not is_ours:
        os.close(lock)
        return None
    return lock


def _remove(folder: Path, lock: int) -> None:
    try:
        shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)


async def clear_scratch() -> None:
    """Remove the folders that killed workers of this machine, and of this user, have left."""
    await asyncio.to_thread(_clear)


def _clear() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
        with suppress(OSError):  # another worker has just removed it
            if folder.lstat().st_uid == os.geteuid() and (lock := _lock(folder)) is not None:
                _remove(folder, lock)
                LOG.info("inspection.scratch_cleared", folder=folder.name)
