"""Text that is its own meaning: prose, code, JSON, XML, SVG. Its markup is text, too; nothing is expanded or run."""

from __future__ import annotations

from io import TextIOWrapper
from typing import BinaryIO

from workers.inspection.charsets import name_of
from workers.inspection.limits import KIB
from workers.inspection.reading import Reading

PIECE_CHARACTERS = 256 * KIB


def parse(reading: Reading) -> None:
    """Copy the text in UTF-8."""
    describe(reading)
    with open_text(reading) as text:
        while not reading.text.is_cut and (piece := text.read(PIECE_CHARACTERS)):
            reading.text.write(piece)


def describe(reading: Reading) -> None:
    """Note what is known of any text."""
    reading.properties["charset"] = name_of(reading.file_type.charset)
    if reading.file_type.language:
        reading.properties["language"] = reading.file_type.language


def open_text(reading: Reading) -> TextIOWrapper:
    """The file as characters."""
    return decoded(reading, reading.source.open("rb"))


def decoded(reading: Reading, file: BinaryIO) -> TextIOWrapper:
    """Bytes as characters, line ends as they are; what is broken becomes U+FFFD."""
    return TextIOWrapper(file, encoding=reading.file_type.charset, errors="replace", newline="")
