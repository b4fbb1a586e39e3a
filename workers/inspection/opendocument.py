"""ODT and ODP: paragraphs and tables in their order, read from a stream of XML."""

from __future__ import annotations

from workers.inspection.prose import Marks, Prose
from workers.inspection.reading import Reading
from workers.inspection.xml_stream import visit
from workers.inspection.zip_files import has_macros, open_package, open_part, refuse_encrypted

CONTENT = "content.xml"
MARKS = Marks(
    words=frozenset({"p", "h"}),
    paragraphs=frozenset({"p", "h"}),
    rows=frozenset({"table-row"}),
    cells=frozenset({"table-cell"}),
    tabs=frozenset({"tab"}),
    breaks=frozenset({"line-break"}),
    spaces=frozenset({"s"}),
    skipped=frozenset({"annotation", "notes", "tracked-changes"}),  # what is said about the text, and what was deleted
)


def parse(reading: Reading) -> None:
    """Write the text of the document, or of all slides."""
    with open_package(reading.source) as package:
        refuse_encrypted(package)
        if has_macros(package):
            reading.properties["macros"] = True
        with open_part(package, CONTENT) as document:
            visit(document, Prose(reading, MARKS))
