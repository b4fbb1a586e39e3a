"""Looks into ZIP files: which kind of package one is, whether it is a bomb, and at its parts. Nothing is extracted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from zipfile import ZipFile

from workers.inspection.file_type import FileType, Parser
from workers.inspection.limits import PACKAGE_PART_BYTES_MAX, RATIO_MAX, UNPACKED_BYTES_MAX
from workers.inspection.refusals import DAMAGED, ENCRYPTED, UNPACKS_TOO_FAR, Refusal, Unreadable
from workers.inspection.xml_stream import elements_of

ZIP = FileType("application/zip", Parser.ARCHIVES)

CONTENT_TYPES = "[Content_Types].xml"
MAIN_PART = re.compile(r"application/(vnd\.(?:ms-|openxmlformats-officedocument\.)[a-z0-9.-]+)\.main(?:\+xml)?")
"""The types of main parts are made from those of files (ECMA-376, part 2); in lower case."""

OFFICE = (
    ("vnd.ms-excel.", Parser.SPREADSHEETS),
    ("vnd.ms-powerpoint.", Parser.OFFICE_OPEN_XML),
    ("vnd.ms-word.", Parser.OFFICE_OPEN_XML),
    ("vnd.openxmlformats-officedocument.presentationml.", Parser.OFFICE_OPEN_XML),
    ("vnd.openxmlformats-officedocument.spreadsheetml.", Parser.SPREADSHEETS),
    ("vnd.openxmlformats-officedocument.wordprocessingml.", Parser.OFFICE_OPEN_XML),
)

MEDIA_TYPE_PART = "mimetype"
NAMED_BY_THEMSELVES = re.compile(rb"application/(?:epub\+zip|vnd\.oasis\.opendocument\.[a-z-]+)")
OPENDOCUMENT = {
    "application/vnd.oasis.opendocument.presentation": Parser.OPENDOCUMENT,
    "application/vnd.oasis.opendocument.presentation-template": Parser.OPENDOCUMENT,
    "application/vnd.oasis.opendocument.spreadsheet": Parser.SPREADSHEETS,
    "application/vnd.oasis.opendocument.spreadsheet-template": Parser.SPREADSHEETS,
    "application/vnd.oasis.opendocument.text": Parser.OPENDOCUMENT,
    "application/vnd.oasis.opendocument.text-template": Parser.OPENDOCUMENT,
}

TELLING_MEMBERS = (
    ("AndroidManifest.xml", FileType("application/vnd.android.package-archive", Parser.ARCHIVES)),
    ("META-INF/MANIFEST.MF", FileType("application/java-archive", Parser.ARCHIVES)),
)

MANIFEST = "META-INF/manifest.xml"
ENCRYPTED_FLAG = 1
MACROS = re.compile(r"(?:^|/)vbaProject\.bin$|^Basic/")


def type_of(source: Path) -> FileType:
    """The type of a file that begins like a ZIP file, told by what is in it."""
    try:
        with ZipFile(source) as package:
            return _type_of(package)
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - whatever breaks here breaks again in the parser, which is where it is told
        return ZIP


def _type_of(package: ZipFile) -> FileType:
    names = set(package.namelist())
    if CONTENT_TYPES in names:
        for _, attributes in elements_of(read_part(package, CONTENT_TYPES)):
            main = MAIN_PART.fullmatch(attributes.get("ContentType", "").lower())
            if main:
                return _office_type(main[1])
    if MEDIA_TYPE_PART in names:
        named = NAMED_BY_THEMSELVES.fullmatch(read_part(package, MEDIA_TYPE_PART).strip())
        if named:
            content_type = named[0].decode()
            return FileType(content_type, OPENDOCUMENT.get(content_type, Parser.ARCHIVES))
    return next((file_type for member, file_type in TELLING_MEMBERS if member in names), ZIP)


def _office_type(main: str) -> FileType:
    """`vnd.ms-word.template.macroenabledtemplate` is `application/vnd.ms-word.template.macroenabled.12`."""
    name = re.sub(r"\.macroenabled.*$", ".macroenabled.12", main)
    parser = next((parser for beginning, parser in OFFICE if main.startswith(beginning)), Parser.ARCHIVES)
    return FileType(f"application/{name}", parser)


@contextmanager
def open_package(source: Path) -> Iterator[ZipFile]:
    """A package that is safe to unpack; raises Unreadable for a bomb, BadZipFile for what is damaged."""
    with ZipFile(source) as package:
        unpacked = sum(member.file_size for member in package.infolist())
        # Against the whole file and not against the members' own words: members may overlap.
        if unpacked > UNPACKED_BYTES_MAX and unpacked > source.stat().st_size * RATIO_MAX:
            raise Unreadable(Refusal.DECOMPRESSION_LIMIT, UNPACKS_TOO_FAR)
        yield package


def read_part(package: ZipFile, name: str) -> bytes:
    """A small part that tells about others."""
    with open_part(package, name) as part:
        content = part.read(PACKAGE_PART_BYTES_MAX + 1)
    if len(content) > PACKAGE_PART_BYTES_MAX:
        raise Unreadable(Refusal.DECOMPRESSION_LIMIT, UNPACKS_TOO_FAR)
    return content


def open_part(package: ZipFile, name: str) -> IO[bytes]:
    """A part as a stream; `zipfile` gives no more of it than its directory says."""
    try:
        member = package.getinfo(name)
    except KeyError:
        raise Unreadable(Refusal.DAMAGED, DAMAGED) from None
    if member.flag_bits & ENCRYPTED_FLAG:
        raise Unreadable(Refusal.ENCRYPTED, ENCRYPTED)
    return package.open(member)


def refuse_encrypted(package: ZipFile) -> None:
    """Raise Unreadable for an OpenDocument file with a password: its manifest tells."""
    if MANIFEST in package.namelist() and any(
        name == "encryption-data" for name, _ in elements_of(read_part(package, MANIFEST))
    ):
        raise Unreadable(Refusal.ENCRYPTED, ENCRYPTED)


def has_macros(package: ZipFile) -> bool:
    """Whether programs are in it. They are kept with the file, and nobody here runs them."""
    return any(MACROS.search(name) for name in package.namelist())
