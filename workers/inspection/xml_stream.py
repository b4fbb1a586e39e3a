"""Reads XML as a stream: no tree, no entities, nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import IO, NoReturn, Protocol
from xml.parsers.expat import ParserCreate

from workers.inspection.limits import KIB
from workers.inspection.refusals import Refusal, Unreadable

PIECE_BYTES = 64 * KIB
DECLARES_ENTITIES = "A part of the file declares XML entities, which unpack without end; office files have none."


class Enough(Exception):
    """What a visitor raises when it needs no more."""


class Visitor(Protocol):
    """What is told of a document's parts, in order; elements by their local names."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Hear that an element begins."""

    def end(self, name: str) -> None:
        """Hear that it ends."""

    def text(self, text: str) -> None:
        """Hear a piece of text."""


def visit(document: IO[bytes], visitor: Visitor) -> None:
    """Read a document to its end, or until the visitor has enough.

    Raises Unreadable for one that declares entities, and ExpatError for what is no XML.
    """
    parser = ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_declarations
    parser.StartElementHandler = lambda name, attributes: visitor.start(_local(name), attributes)
    parser.EndElementHandler = lambda name: visitor.end(_local(name))
    parser.CharacterDataHandler = visitor.text
    try:
        while piece := document.read(PIECE_BYTES):
            parser.Parse(piece, False)  # noqa: FBT003 - expat takes no names
        parser.Parse(b"", True)  # noqa: FBT003
    except Enough:
        pass


def elements_of(document: bytes) -> Iterator[tuple[str, dict[str, str]]]:
    """The elements of a small document, local name and attributes, in order."""
    collected = _Elements()
    visit(BytesIO(document), collected)
    return iter(collected.elements)


class _Elements:
    def __init__(self) -> None:
        self.elements: list[tuple[str, dict[str, str]]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements.append((name, attributes))

    def end(self, name: str) -> None:
        """Nothing: elements count where they begin."""

    def text(self, text: str) -> None:
        """Nothing: only elements are wanted."""


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def _refuse_declarations(*_: object) -> NoReturn:
    raise Unreadable(Refusal.DECOMPRESSION_LIMIT, DECLARES_ENTITIES)
