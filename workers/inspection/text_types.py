"""Tells kinds of text apart: by what only one kind begins with, then by the name, then by what looks alike."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath

from workers.inspection.delimiters import sniff_delimiter
from workers.inspection.file_type import FileType, Parser
from workers.inspection.languages import INTERPRETERS, LANGUAGES, PHP, WRITTEN_INTO_HTML, Language

BEGINNING_CHARACTERS_MAX = 4096
"""Where the sign of a page, an XML document or a script stands, comments and all."""

SIGNATURES: dict[str, str | Language] = {
    "{\\rtf": "application/rtf",
    "%!PS": "application/postscript",
    "<?php": PHP,
}
XML = ("<?xml", "<!DOCTYPE", "<svg")
PAGE = re.compile(r"<!doctype\s+html|<html[\s>]", re.IGNORECASE)
PAGE_PERHAPS = re.compile(
    r"<(?:!--|(?:a|b|body|br|center|div|font|h[1-6]|head|iframe|img|meta|p|script|span|style|table|title)[\s/>])",
    re.IGNORECASE,
)
XML_PREAMBLE = re.compile(r"(?:<\?.*?\?>|<!--.*?-->|<!DOCTYPE[^\[>]*(?:\[.*?\]\s*)?>|\s)*", re.DOTALL)
XML_ROOT = re.compile(r"<(?:[\w.-]+:)?([\w.-]+)[\s/>]")
INTERPRETER = re.compile(r"#!\s*(?:/\S*/)?(?:env\s+(?:-S\s+)?)?(?:/\S*/)?([a-zA-Z]+)")
JSON = re.compile(r'[\[{"]|-?\d|true|false|null')

KINDS: dict[str, str] = {
    "csv": "text/csv",
    "geojson": "application/geo+json",
    "ics": "text/calendar",
    "ipynb": "application/json",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "markdown": "text/markdown",
    "md": "text/markdown",
    "ndjson": "application/x-ndjson",
    "rst": "text/x-rst",
    "tab": "text/tab-separated-values",
    "tex": "text/x-tex",
    "toml": "application/toml",
    "tsv": "text/tab-separated-values",
    "txt": "text/plain",
    "vcf": "text/vcard",
    "vtt": "text/vtt",
    "yaml": "application/yaml",
    "yml": "application/yaml",
}
"""Endings of names, for text that is no code."""

DECLARED_LANGUAGES = {language.content_type: language for language in LANGUAGES.values()}

TABLES = {"text/csv", "text/tab-separated-values"}
JSONS = {"application/json", "application/geo+json", "application/x-ndjson"}


def text_type(text: str, codec: str, filename: str, declared: str) -> FileType:
    """The type of a text, of which `text` is the beginning."""
    name = PurePosixPath(filename.lower().replace("\\", "/")).name
    ending = name if name in LANGUAGES else name.rpartition(".")[2]
    content_type = _by_content(text, ending)
    language = None
    if isinstance(content_type, Language):
        language, content_type = content_type, content_type.content_type
    elif content_type is None and ending in LANGUAGES:
        language = LANGUAGES[ending]
        content_type = language.content_type
    if content_type is None:
        content_type = _by_name(text, KINDS.get(ending, ""))
    if content_type is None:
        said = declared.partition(";")[0].strip().lower()
        language = DECLARED_LANGUAGES.get(said)
        content_type = said if language else _by_name(text, said) or _by_likeness(text)
    return FileType(content_type, _parser_of(content_type), codec, language.name if language else "")


def _by_content(text: str, ending: str) -> str | Language | None:
    """What only one kind of text begins with."""
    beginning = text[:BEGINNING_CHARACTERS_MAX].lstrip("\ufeff \t\r\n\f")
    for signature, found in SIGNATURES.items():
        if beginning.startswith(signature):
            return found
    if ending in WRITTEN_INTO_HTML:
        return None
    has_telling_name = ending in LANGUAGES or ending in KINDS
    script = INTERPRETER.match(beginning)
    if PAGE.match(beginning) or (PAGE_PERHAPS.match(beginning) and not has_telling_name):
        return "text/html"
    if beginning.startswith(XML):
        return _xml_type(beginning)
    return INTERPRETERS.get(script[1].lower()) if script and not has_telling_name else None


def _xml_type(beginning: str) -> str:
    preamble = XML_PREAMBLE.match(beginning)
    root = XML_ROOT.match(beginning, preamble.end() if preamble else 0)
    return {"svg": "image/svg+xml", "html": "application/xhtml+xml"}.get(root[1] if root else "", "application/xml")


def _by_name(text: str, content_type: str) -> str | None:
    """What the name or the uploader says, if it is a kind of text that this can be."""
    if content_type in JSONS:
        return content_type if JSON.match(text.lstrip()) else None
    return content_type if content_type in KINDS.values() else None


def _by_likeness(text: str) -> str:
    """What a text without a telling name looks like."""
    if text.lstrip()[:1] in {"{", "["} and _is_json(text):
        return "application/json"
    delimiter = sniff_delimiter(text)
    if delimiter is not None:
        return "text/tab-separated-values" if delimiter == "\t" else "text/csv"
    return "text/plain"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parser_of(content_type: str) -> Parser | None:
    if content_type in TABLES:
        return Parser.TABLES
    if content_type in {"text/html", "application/xhtml+xml"}:
        return Parser.WEB_PAGES
    if content_type in {"application/rtf", "application/postscript"}:
        return None  # programs more than texts
    return Parser.PLAIN_TEXT
