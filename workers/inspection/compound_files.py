"""Compound files (OLE): what Office wrote until 2003, and how it wraps what a password protects."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from workers.inspection.file_type import FileType, Parser

COMPOUND_FILE = FileType("application/x-ole-storage")
PROTECTED = FileType("application/x-ole-storage", Parser.PROTECTED_OFFICE)

STREAMS = (
    ("EncryptedPackage", PROTECTED),  # first: the names of what is inside it are not to be seen
    ("WordDocument", FileType("application/msword")),
    ("Workbook", FileType("application/vnd.ms-excel", Parser.SPREADSHEETS)),
    ("Book", FileType("application/vnd.ms-excel", Parser.SPREADSHEETS)),
    ("PowerPoint Document", FileType("application/vnd.ms-powerpoint")),
    ("__properties_version1.0", FileType("application/vnd.ms-outlook")),
)
MACROS = ("_VBA_PROJECT_CUR", "Macros")

# A directory entry is 128 bytes: a name in UTF-16 with its end, the bytes that it takes, and a kind ([MS-CFB] 2.6).
ENTRY_BYTES = 128
NAME_BYTES = 64
KINDS = (1, 2)  # storage, stream


def type_of(source: Path) -> FileType:
    """Tell by the names of its streams which program wrote it."""
    return next((file_type for name, file_type in STREAMS if has_entry(source, name)), COMPOUND_FILE)


def has_macros(source: Path) -> bool:
    """Whether programs are in it."""
    return any(has_entry(source, name) for name in MACROS)


def has_entry(source: Path, name: str) -> bool:
    """Whether the directory has an entry of that name. It may lie anywhere, but only on multiples of its own size."""
    sought = name.encode("utf-16-le") + b"\0\0"
    with source.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(sought)
        while place >= 0:
            entry = content[place : place + ENTRY_BYTES]
            if place % ENTRY_BYTES == 0 and len(entry) == ENTRY_BYTES:
                length, kind = struct.unpack_from("<HB", entry, NAME_BYTES)
                if length == len(sought) and kind in KINDS:
                    return True
            place = content.find(sought, place + 1)
    return False
