"""Finds out what a file is: its bytes decide, and among kinds of text its name and what was declared.

puremagic names what is only kept (sound, video, fonts, archives). What is parsed has its signature here: puremagic
1.30 calls every ZIP file a DOCX, misses half of the HEIC files, and is content with two bytes.
"""

from __future__ import annotations

import re
from pathlib import Path

import puremagic

from workers.inspection import compound_files, zip_files
from workers.inspection.charsets import codec_of
from workers.inspection.file_type import UNKNOWN, FileType, Parser
from workers.inspection.limits import KIB, SAMPLE_BYTES_MAX
from workers.inspection.text_types import text_type

PDF = FileType("application/pdf", Parser.PDF)

SIGNATURES: tuple[tuple[re.Pattern[bytes], FileType], ...] = tuple(
    (re.compile(pattern, re.DOTALL), file_type)
    for pattern, file_type in (
        (rb"\x89PNG\r\n\x1a\n", FileType("image/png", Parser.IMAGES)),
        (rb"\xff\xd8\xff", FileType("image/jpeg", Parser.IMAGES)),
        (rb"GIF8[79]a", FileType("image/gif", Parser.IMAGES)),
        (rb"RIFF....WEBPVP8", FileType("image/webp", Parser.IMAGES)),
        (rb"II[*+]\x00|MM\x00[*+]", FileType("image/tiff", Parser.IMAGES)),
        (rb"BM....\x00{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\x00{3}", FileType("image/bmp", Parser.IMAGES)),
        (rb"....ftypavi[fs]", FileType("image/avif", Parser.IMAGES)),
        (rb"....ftyp(?:hei[cxms]|hev[cxms])", FileType("image/heic")),
        (rb"....ftypm[is]f1", FileType("image/heif")),
        (rb"%PDF-", PDF),
        (rb"PAR1.*", FileType("application/vnd.apache.parquet")),
        (rb"SQLite format 3\x00", FileType("application/vnd.sqlite3")),
        (rb"\x7fELF[\x01\x02][\x01\x02]\x01", FileType("application/x-elf")),
        (rb"MZ.{58}....(?=.*PE\x00\x00)", FileType("application/vnd.microsoft.portable-executable")),
        (rb"\x00asm\x01\x00\x00\x00", FileType("application/wasm")),
    )
)
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
COMPOUND_FILE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"

PDF_BEHIND_A_PREFIX = re.compile(rb"[\r\n]%PDF-[12]\.\d[\r\n]")
PDF_PREFIX_BYTES_MAX = KIB
PDF_END = b"%%EOF"

MAGIC_BYTES_MAX = 40 * KIB
"""The signature that is farthest in, that of a disk image, begins at 32,769."""

CONFIDENCE_MIN = 0.3
"""puremagic's measure is the length of a signature in tenths: two bytes are chance."""

MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,99}/[a-z0-9][a-z0-9.+-]{0,99}")
REGISTERED = {"application/x-gzip": "application/gzip", "audio/wave": "audio/wav", "audio/x-wav": "audio/wav"}


def find_type(source: Path, filename: str, declared: str) -> FileType:
    """The type of a file; no bytes at all have none."""
    with source.open("rb") as file:
        beginning = file.read(SAMPLE_BYTES_MAX)
    if not beginning:
        return UNKNOWN
    found = _by_signature(source, beginning)
    if found is None and (codec := codec_of(beginning)):
        found = text_type(beginning.decode(codec, errors="replace"), codec, filename, declared)
    return found or _name(beginning[:MAGIC_BYTES_MAX])


def _by_signature(source: Path, beginning: bytes) -> FileType | None:
    for signature, file_type in SIGNATURES:
        if signature.match(beginning[:KIB]):
            return file_type
    if beginning.startswith(ZIP):
        return zip_files.type_of(source)
    if beginning.startswith(COMPOUND_FILE):
        return compound_files.type_of(source)
    return PDF if _is_pdf_behind_a_prefix(source, beginning) else None


def _is_pdf_behind_a_prefix(source: Path, beginning: bytes) -> bool:
    """Whether a few lines stand before the header, as printers and mail programs write them; readers allow it."""
    if not PDF_BEHIND_A_PREFIX.search(beginning[:PDF_PREFIX_BYTES_MAX]):
        return False
    with source.open("rb") as file:
        file.seek(max(0, source.stat().st_size - PDF_PREFIX_BYTES_MAX))
        return PDF_END in file.read()


def _name(beginning: bytes) -> FileType:
    """The type of a file that is kept and not read."""
    try:
        matches = puremagic.magic_string(beginning)
    except puremagic.PureError:  # nothing fits
        return UNKNOWN
    for match in matches:
        if match.confidence >= CONFIDENCE_MIN and MEDIA_TYPE.fullmatch(match.mime_type):
            return FileType(REGISTERED.get(match.mime_type, match.mime_type))
    return UNKNOWN
