"""What a virus scanner says of a file, and what is no verdict."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from clamd import EICAR, Clamd, scanning

from workers.scanner import ScannerAway, verdict_on


@pytest.fixture
async def clamd() -> AsyncIterator[Clamd]:
    async with scanning() as running:
        yield running


@pytest.mark.parametrize("content", [b"", b"words", b"x" * 1_000_000])
async def test_a_clean_file_is_sent_whole_and_has_no_verdict_against_it(clamd: Clamd, tmp_path: Path, content: bytes):
    (tmp_path / "file").write_bytes(content)

    assert await verdict_on(tmp_path / "file", clamd.address) is None
    assert clamd.seen == [content]


async def test_what_was_found_has_a_name(clamd: Clamd, tmp_path: Path):
    (tmp_path / "file").write_bytes(EICAR)

    assert await verdict_on(tmp_path / "file", clamd.address) == "Win.Test.EICAR_HDB-1"


@pytest.mark.parametrize(
    "answer",
    [b"", b"INSTREAM size limit exceeded. ERROR\0", b"stream: OK", b"\xff" * 10_000, b"stream:  FOUND\0", b"\0"],
)
async def test_whatever_is_no_verdict_counts_as_none(clamd: Clamd, tmp_path: Path, answer: bytes):
    (tmp_path / "file").write_bytes(b"words")
    clamd.answer = answer

    with pytest.raises(ScannerAway):
        await verdict_on(tmp_path / "file", clamd.address)


async def test_a_scanner_that_nobody_runs_is_away(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"words")
    async with scanning() as clamd:
        address = clamd.address

    with pytest.raises(ScannerAway):
        await verdict_on(tmp_path / "file", address)
