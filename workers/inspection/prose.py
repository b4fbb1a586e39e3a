"""Turns the XML of a document into lines of text: a paragraph a line, a row of a table a line with tabs."""

from __future__ import annotations

import re
from typing import NamedTuple

from workers.inspection.reading import Reading
from workers.inspection.xml_stream import Enough

PIECES_BETWEEN_LOOKS = 1000

LINE_PIECES_MAX = 100_000
"""A paragraph is broken after so many, so that a document without paragraphs is not collected as a whole."""

BLANKS_AT_A_TAB = re.compile(r" *\t *")


class Marks(NamedTuple):
    """What a kind of document calls its elements; `words` are those whose characters count."""

    words: frozenset[str]
    paragraphs: frozenset[str]
    rows: frozenset[str]
    cells: frozenset[str]
    tabs: frozenset[str]
    breaks: frozenset[str]
    spaces: frozenset[str]
    skipped: frozenset[str]


class Prose:
    """Hears the elements of a document (`xml_stream.Visitor`) and writes lines."""

    def __init__(self, reading: Reading, marks: Marks) -> None:
        self._reading = reading
        self._marks = marks
        self._line: list[str] = []
        self._words_depth = 0
        self._rows_depth = 0
        self._skipped_depth = 0
        self._pieces = 0

    def start(self, name: str, _: dict[str, str]) -> None:
        """Hear that an element begins."""
        marks = self._marks
        if self._skipped_depth or name in marks.skipped:
            self._skipped_depth += 1
            return
        self._words_depth += name in marks.words
        self._rows_depth += name in marks.rows
        if name in marks.tabs:
            self._add(" " if self._rows_depth else "\t")
        elif name in marks.spaces:
            self._add(" ")
        elif name in marks.breaks:
            self._end_paragraph()

    def text(self, text: str) -> None:
        """Hear a piece of text."""
        if self._words_depth and not self._skipped_depth:
            self._add(text.replace("\n", " ").replace("\t", " "))

    def end(self, name: str) -> None:
        """Hear that an element ends."""
        marks = self._marks
        if self._skipped_depth:
            self._skipped_depth -= 1
            return
        self._words_depth -= name in marks.words
        if name in marks.paragraphs:
            self._end_paragraph()
        elif name in marks.cells:
            self._add("\t" if self._rows_depth == 1 else " ")  # a table in a cell is part of the cell
        elif name in marks.rows:
            self._rows_depth -= 1
            self._end_paragraph()

    def end_line(self) -> None:
        """Write what was collected, if there is a word in it; raises Enough when there is no room for more."""
        line = BLANKS_AT_A_TAB.sub("\t", "".join(self._line)).strip(" ").rstrip("\t")
        self._line.clear()
        if line:
            self._reading.text.write(line + "\n")
        if self._reading.text.is_cut:
            raise Enough

    def _end_paragraph(self) -> None:
        if self._rows_depth:
            self._add(" ")
        else:
            self.end_line()

    def _add(self, text: str) -> None:
        self._line.append(text)
        self._pieces += 1
        if self._pieces % PIECES_BETWEEN_LOOKS == 0 and self._reading.is_out_of_time():
            self._reading.text.cut()
        if len(self._line) > LINE_PIECES_MAX or self._reading.text.is_cut:
            self.end_line()
