"""The folders in which files are looked into: kept while their worker lives, and gone soon after it does not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.scratch import SCRATCH_PREFIX, clear_scratch, scratch_folder

WORDS = "the words of a file"
WORKER = f"""
import asyncio
from workers.scratch import scratch_folder

async def work():
    async with scratch_folder() as folder:
        (folder / "file").write_text({WORDS!r})
        print(folder, flush=True)
        await asyncio.to_thread(input)

asyncio.run(work())
"""
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this test and of its workers."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """Another process that looks into a file, until a line comes or it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process
        process.kill()


def folder_of(worker: subprocess.Popen[str]) -> Path:
    assert worker.stdout is not None
    return Path(worker.stdout.readline().strip())


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_the_folder_of_a_killed_worker_is_removed_by_another_one_and_that_of_a_living_one_is_not(
    worker: subprocess.Popen[str], temporary: Path
):
    folder = await asyncio.to_thread(folder_of, worker)
    await clear_scratch()
    assert (folder / "file").read_text() == WORDS

    worker.kill()
    await asyncio.to_thread(worker.wait)
    assert (folder / "file").read_text() == WORDS
    await clear_scratch()

    assert names_in(temporary) == []


async def test_a_worker_does_not_remove_its_own_folder_and_leaves_none(temporary: Path):
    async with scratch_folder() as folder:
        (folder / "file").write_text(WORDS)
        await clear_scratch()
        stands = (folder / "file").read_text()

    assert stands == WORDS
    assert names_in(temporary) == []


async def test_a_folder_that_another_worker_clears_before_it_is_locked_is_not_used(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
):
    made: list[str] = []
    make = tempfile.mkdtemp

    def made_and_cleared_once(prefix: str) -> str:
        made.append(make(prefix=prefix))
        if len(made) == 1:
            Path(made[0]).rmdir()
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", made_and_cleared_once)
    async with scratch_folder() as folder:
        (folder / "file").write_text(WORDS)

    assert str(folder) == made[1]
    assert names_in(temporary) == []


async def test_nothing_else_in_the_temporary_folder_is_removed(temporary: Path):
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text(WORDS)
    (temporary / f"{SCRATCH_PREFIX}link").symlink_to(elsewhere)
    (temporary / f"{SCRATCH_PREFIX}file").write_text(WORDS)
    before = names_in(temporary)

    await clear_scratch()

    assert names_in(temporary) == before
    assert (elsewhere / "file").read_text() == WORDS
