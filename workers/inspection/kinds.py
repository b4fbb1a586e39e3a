"""Which sort of attachment a content type is."""

from __future__ import annotations

from service.domain.attachment import AttachmentType
from workers.inspection.languages import LANGUAGES

CODE = {language.content_type for language in LANGUAGES.values()}

DATA = {
    "application/geo+json",
    "application/json",
    "application/toml",
    "application/vnd.apache.parquet",
    "application/vnd.sqlite3",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "text/csv",
    "text/tab-separated-values",
}
DATA_BEGINNINGS = (
    "application/vnd.ms-excel",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.openxmlformats-officedocument.spreadsheetml",
)

DOCUMENTS = {
    "application/epub+zip",
    "application/msword",
    "application/pdf",
    "application/postscript",
    "application/rtf",
    "application/xhtml+xml",
}
DOCUMENT_BEGINNINGS = (
    "application/vnd.ms-powerpoint",
    "application/vnd.ms-word",
    "application/vnd.oasis.opendocument.presentation",
    "application/vnd.oasis.opendocument.text",
    "application/vnd.openxmlformats-officedocument.presentationml",
    "application/vnd.openxmlformats-officedocument.wordprocessingml",
    "text/",  # what is written and is neither code nor data
)


def attachment_type_of(content_type: str) -> AttachmentType:
    """Sort a content type that was found (lower case, no parameters)."""
    if content_type.startswith("image/"):
        return AttachmentType.IMAGE
    if content_type in CODE:
        return AttachmentType.CODE
    if content_type in DATA or content_type.startswith(DATA_BEGINNINGS):
        return AttachmentType.DATA
    if content_type in DOCUMENTS or content_type.startswith(DOCUMENT_BEGINNINGS):
        return AttachmentType.DOCUMENT
    return AttachmentType.OTHER
