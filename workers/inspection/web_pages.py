"""HTML: the words that a reader sees. Scripts and styles are dropped, nothing is fetched and nothing is run."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from workers.inspection import plain_text
from workers.inspection.plain_text import PIECE_CHARACTERS
from workers.inspection.reading import Reading, TextOutput

INVISIBLE = {"noscript", "script", "style", "template", "title"}
BLOCKS = {
    *("address", "article", "aside", "blockquote", "body", "br", "caption", "dd", "details", "div", "dl", "dt"),
    *("fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr", "li"),
    *("main", "nav", "ol", "option", "p", "pre", "section", "summary", "table", "tr", "ul"),
}
CELLS = {"td", "th"}
LINE_PIECES_MAX = 10_000
"""A line is broken after so many, so that a page without blocks is not collected as a whole."""

SPACES = re.compile(r"[ \t\r\n\f]+")


def parse(reading: Reading) -> None:
    """Write the visible text: a line for each block, cells of tables separated by tabs."""
    plain_text.describe(reading)
    page = _Page(reading.text)
    with plain_text.open_text(reading) as markup:
        while not reading.text.is_cut and (piece := markup.read(PIECE_CHARACTERS)):
            page.feed(piece)
            if reading.is_out_of_time():
                reading.text.cut()
    page.close()
    page.end_line()


class _Page(HTMLParser):
    """Collects a line and writes it when a block begins or ends."""

    def __init__(self, text: TextOutput) -> None:
        super().__init__(convert_charrefs=True)
        self._text = text
        self._line: list[str] = []
        self._invisible: list[str] = []
        self._verbatim = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002 - theirs
        if tag in INVISIBLE:
            self._invisible.append(tag)
        elif tag in CELLS and self._line:
            self._line.append("\t")
        elif tag in BLOCKS:
            self.end_line()
        self._verbatim += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in self._invisible:
            del self._invisible[self._invisible.index(tag) :]
        elif tag in BLOCKS:
            self.end_line()
        self._verbatim = max(self._verbatim - (tag == "pre"), 0)

    def handle_data(self, data: str) -> None:
        if self._invisible:
            return
        self._line.append(data if self._verbatim else SPACES.sub(" ", data))
        if len(self._line) > LINE_PIECES_MAX or len(data) == PIECE_CHARACTERS:
            self.end_line()

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Take `<![if …]>` as browsers do, for a comment; the parser of the library breaks down over it."""
        return self.parse_bogus_comment(i, report)

    def end_line(self) -> None:
        """Write what was collected, if there is a word in it."""
        line = "".join(self._line)
        self._line.clear()
        if not self._verbatim:
            line = re.sub(r" *\t *", "\t", re.sub(" +", " ", line)).strip()
        if line.strip():
            self._text.write(line + "\n")
