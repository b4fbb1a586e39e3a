"""Tables written as text: CSV and its kin."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO

from workers.inspection import plain_text
from workers.inspection.delimiters import SAMPLE_CHARACTERS_MAX, likeliest_delimiter
from workers.inspection.limits import LINE_CHARACTERS_MAX
from workers.inspection.reading import Reading

ROWS_BETWEEN_PROGRESS = 10_000


class NoTable(Exception):
    """A line that is longer than any row."""


def parse(reading: Reading) -> None:
    """Copy the text, and count rows (the header is one) and columns (of the widest row).

    What turns out to be no table keeps its text, and has neither rows nor columns.
    """
    plain_text.parse(reading)
    with plain_text.open_text(reading) as text:
        fallback = "\t" if reading.file_type.content_type == "text/tab-separated-values" else ","
        delimiter = likeliest_delimiter(text.read(SAMPLE_CHARACTERS_MAX), fallback)
    try:
        rows, columns = _measure(reading, delimiter)
    except (NoTable, csv.Error):
        return
    reading.properties["delimiter"] = delimiter
    reading.properties["rows"] = rows
    reading.properties["columns"] = columns


def _measure(reading: Reading, delimiter: str) -> tuple[int, int]:
    csv.field_size_limit(LINE_CHARACTERS_MAX)
    size = reading.source.stat().st_size
    rows = columns = 0
    with reading.source.open("rb") as file, plain_text.decoded(reading, file) as text:
        for row in csv.reader(_lines(text), delimiter=delimiter):
            rows += bool(row)
            columns = max(columns, len(row))
            if rows % ROWS_BETWEEN_PROGRESS == 0:
                reading.say_progress(file.tell() / size)
    return rows, columns


def _lines(text: TextIO) -> Iterator[str]:
    while line := text.readline(LINE_CHARACTERS_MAX + 1):
        if len(line) > LINE_CHARACTERS_MAX:
            raise NoTable
        yield line
