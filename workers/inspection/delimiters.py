"""What separates the columns of a table that is written as text."""

from __future__ import annotations

import csv
from collections import Counter

from workers.inspection.limits import KIB

DELIMITERS = "\t;,|"
"""In the order of how seldom they stand in prose."""

SAMPLE_CHARACTERS_MAX = 64 * KIB
SAMPLE_ROWS_MAX = 200
ROWS_MIN = 3
"""So many rows alike are no accident."""


def sniff_delimiter(text: str) -> str | None:
    """The delimiter that makes a table of all rows, if there is one: every row has the same columns, at least two."""
    for delimiter, (widths, _) in _widths_by_delimiter(text).items():
        if len(widths) == 1 and next(iter(widths)) > 1 and widths.total() >= ROWS_MIN:
            return delimiter
    return None


def likeliest_delimiter(text: str, fallback: str) -> str:
    """The delimiter of what is known to be a table: the one by which most rows have the same columns, at least two."""
    best, best_share = fallback, 0.0
    for delimiter, (widths, rows) in _widths_by_delimiter(text).items():
        width, count = max(widths.items(), key=lambda item: item[1], default=(0, 0))
        if width > 1 and count / rows > best_share:
            best, best_share = delimiter, count / rows
    return best


def _widths_by_delimiter(text: str) -> dict[str, tuple[Counter[int], int]]:
    sample = text[:SAMPLE_CHARACTERS_MAX]
    lines = sample.splitlines(keepends=True)
    if len(text) > len(sample):
        lines = lines[:-1]  # the last one is cut
    return {delimiter: _widths(lines[:SAMPLE_ROWS_MAX], delimiter) for delimiter in DELIMITERS}


def _widths(lines: list[str], delimiter: str) -> tuple[Counter[int], int]:
    try:
        widths = Counter(len(row) for row in csv.reader(lines, delimiter=delimiter) if row)
    except csv.Error:
        return Counter(), 1
    return widths, max(widths.total(), 1)
