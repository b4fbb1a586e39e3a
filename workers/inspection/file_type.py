"""What a file turned out to be, and which parser reads it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Parser(StrEnum):
    """The modules that read files; each has a function `parse(reading)`."""

    ARCHIVES = "archives"
    IMAGES = "images"
    OFFICE_OPEN_XML = "office_open_xml"
    OPENDOCUMENT = "opendocument"
    PDF = "pdf"
    PLAIN_TEXT = "plain_text"
    PROTECTED_OFFICE = "protected_office"
    SPREADSHEETS = "spreadsheets"
    TABLES = "tables"
    WEB_PAGES = "web_pages"


class FileType(NamedTuple):
    """A media type in lower case; no parser: the bytes are kept, and nothing is taken from them."""

    content_type: str
    parser: Parser | None = None
    charset: str = ""
    language: str = ""


UNKNOWN = FileType("application/octet-stream")
