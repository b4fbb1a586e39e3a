"""DOCX and PPTX: paragraphs and tables in their order, read from a stream of XML."""

from __future__ import annotations

import posixpath
from zipfile import ZipFile

from workers.inspection.limits import SLIDES_MAX
from workers.inspection.prose import Marks, Prose
from workers.inspection.reading import Reading
from workers.inspection.refusals import DAMAGED, Refusal, Unreadable
from workers.inspection.xml_stream import elements_of, visit
from workers.inspection.zip_files import has_macros, open_package, open_part, read_part

MARKS = Marks(
    words=frozenset({"t"}),
    paragraphs=frozenset({"p"}),
    rows=frozenset({"tr"}),
    cells=frozenset({"tc"}),
    tabs=frozenset({"tab", "ptab"}),
    breaks=frozenset({"br", "cr"}),
    spaces=frozenset(),
    skipped=frozenset({"Fallback", "moveFrom", "tabs", "tabLst"}),  # said twice, moved away, and settings
)

PRESENTATIONS = ("application/vnd.ms-powerpoint.", "application/vnd.openxmlformats-officedocument.presentationml.")

MAIN_PART = "/officeDocument"
SLIDE = "/slide"
"""The ends of the names of relations, in the transitional and in the strict form of the standard."""


def parse(reading: Reading) -> None:
    """Write the text of the document, or of all slides in their order."""
    with open_package(reading.source) as package:
        if has_macros(package):
            reading.properties["macros"] = True
        main = next(iter(_related(package, "", MAIN_PART).values()), None)
        if main is None:
            raise Unreadable(Refusal.DAMAGED, DAMAGED)
        if reading.file_type.content_type.startswith(PRESENTATIONS):
            _read_slides(package, main, reading)
        else:
            _read(package, main, reading)


def _read_slides(package: ZipFile, main: str, reading: Reading) -> None:
    """A presentation lists its slides in order, by relations that name the parts."""
    parts = _related(package, main, SLIDE)
    shown = [
        parts[relation]
        for name, attributes in elements_of(read_part(package, main))
        if name == "sldId"
        for attribute, relation in attributes.items()
        if attribute.endswith(" id") and relation in parts
    ]
    reading.properties["slides"] = len(shown)
    for number, slide in enumerate(shown[:SLIDES_MAX]):
        if reading.text.is_cut:
            break
        _read(package, slide, reading)
        reading.text.write("\n")
        reading.say_progress((number + 1) / len(shown))
    if len(shown) > SLIDES_MAX:
        reading.text.cut()


def _read(package: ZipFile, part: str, reading: Reading) -> None:
    with open_part(package, part) as document:
        visit(document, Prose(reading, MARKS))


def _related(package: ZipFile, part: str, kind: str) -> dict[str, str]:
    """The parts that a part is related to in a way, by the relations' ids. What lies outside the package is no part."""
    folder, name = posixpath.split(part)
    relations = elements_of(read_part(package, posixpath.join(folder, "_rels", f"{name}.rels")))
    return {
        attributes.get("Id", ""): _resolved(folder, attributes.get("Target", ""))
        for name, attributes in relations
        if name == "Relationship"
        and attributes.get("Type", "").endswith(kind)
        and attributes.get("TargetMode") != "External"
    }


def _resolved(folder: str, target: str) -> str:
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
