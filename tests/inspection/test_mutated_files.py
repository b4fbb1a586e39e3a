"""Noise and broken files: whatever the bytes are, there is a report or a reason."""

from __future__ import annotations

import asyncio
import random

import pytest
from office_packages import docx_body
from pdf_documents import one_page
from pictures import encoded, gradient, photo

from workers.inspection.inspect import InspectionFailed, Report

SEEDS = range(2)
AT_ONCE = 2
NOISE_BYTES_MAX = 4096

DOCUMENTS = ["offer.docx", "prices.xlsx", "talk.pptx", "letter.odt", "sheet.ods", "old.xls", "object_streams.pdf"]
HEADS = [
    *(
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"GIF89a",
        b"RIFF\0\0\1\0WEBPVP8 ",
        b"II*\0",
        b"\0\0\0\x20ftypavif",
    ),
    *(b"PK\3\4", b"%PDF-1.7\n", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", b"<?xml ", b"<html>", b"\xff\xfe", b"{\\rtf"),
]


def mutated(content: bytes, chance: random.Random) -> bytes:
    """A file in which some bytes are others, a piece is missing, or one is there twice."""
    broken = bytearray(content)
    for _ in range(chance.choice([1, 10, 100])):
        broken[chance.randrange(len(broken))] = chance.randrange(256)
    begin, end = sorted(chance.randrange(len(broken)) for _ in range(2))
    match chance.randrange(3):
        case 0:
            del broken[begin : min(end, begin + 64)]
        case 1:
            broken[begin:begin] = broken[begin:end][:4096]
    return bytes(broken)


async def ends(look, contents: list[bytes], tmp_path, names: list[str]) -> list[object]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, content: bytes) -> object:
        source = tmp_path / f"mutated-{number}"
        source.write_bytes(content)
        async with turn:
            try:
                return await look(source, names[number % len(names)])
            except InspectionFailed as failed:
                return failed

    return await asyncio.gather(*(one(number, content) for number, content in enumerate(contents)))


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_broken_file_gives_a_report_or_a_reason(look, sample, tmp_path, seed):
    chance = random.Random(seed)  # noqa: S311 - the same ones every time
    originals = [sample(name) for name in DOCUMENTS]
    originals += [encoded(gradient(64, 64), kind) for kind in ("PNG", "GIF", "WEBP", "TIFF", "AVIF", "BMP")]
    originals += [photo(64, 48, 6), one_page(), docx_body("<w:p><w:t>x</w:t></w:p>")]
    outcomes = await ends(look, [mutated(original, chance) for original in originals], tmp_path, ["x"])

    assert len(outcomes) == len(originals)
    assert all(isinstance(outcome, Report | InspectionFailed) for outcome in outcomes)
    assert not any(isinstance(outcome, InspectionFailed) and outcome.is_transient for outcome in outcomes)


async def test_noise_gives_a_report_or_a_reason(look, tmp_path):
    chance = random.Random(4)  # noqa: S311 - as above
    noise = [head + chance.randbytes(chance.randrange(NOISE_BYTES_MAX)) for head in HEADS]
    outcomes = await ends(look, noise, tmp_path, ["x", "x.csv", "x.html", "x.py"])

    assert all(isinstance(outcome, Report | InspectionFailed) for outcome in outcomes)
    assert not any(isinstance(outcome, InspectionFailed) and outcome.is_transient for outcome in outcomes)
