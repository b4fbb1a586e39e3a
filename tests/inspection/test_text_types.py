"""Kinds of text: what they begin with decides, then the name, then what was declared, then what they look like."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.attachment import AttachmentType
from workers.inspection.file_type import FileType
from workers.inspection.kinds import attachment_type_of
from workers.inspection.sniffing import find_type
from workers.inspection.text_types import text_type


def typed(text: str, filename: str = "", declared: str = "") -> FileType:
    return text_type(text, "utf-8", filename, declared)


@pytest.mark.parametrize(
    ("text", "filename", "content_type", "attachment_type"),
    [
        ("<!DOCTYPE html><p>x", "innocent.png", "text/html", "document"),
        ("\ufeff \n<HTML lang=de>", "x.txt", "text/html", "document"),
        ("<script>alert(1)</script>", "x", "text/html", "document"),
        ("<!-- x --><div>", "x.unknown", "text/html", "document"),
        ('<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>', "logo.png", "image/svg+xml", "image"),
        ('<?xml version="1.0"?><!-- c --><!DOCTYPE svg [<!ENTITY a "b">]>\n<s:svg >', "x", "image/svg+xml", "image"),
        ('<?xml version="1.0"?><html xmlns="">', "x.xml", "application/xhtml+xml", "document"),
        ('<?xml version="1.0"?><a/>', "x.txt", "application/xml", "data"),
        ("{\\rtf1\\ansi x}", "x.doc", "application/rtf", "document"),
        ("%!PS-Adobe-3.0\n{loop}", "x.pdf", "application/postscript", "document"),
        ("<?php echo 1;", "x.html", "text/x-php", "code"),
        ("#!/usr/bin/env python3\nprint(1)", "script", "text/x-python", "code"),
        ("#!/bin/sh\necho", "run", "text/x-shellscript", "code"),
    ],
)
def test_what_a_text_begins_with_decides(text, filename, content_type, attachment_type):
    assert typed(text, filename).content_type == content_type
    assert attachment_type_of(content_type) == AttachmentType(attachment_type)


@pytest.mark.parametrize(
    ("filename", "text", "content_type", "language"),
    [
        ("a.py", "import os\n", "text/x-python", "python"),
        ("A.PY", "# comment\n", "text/x-python", "python"),
        ("a.tar.js", "let a = 1;", "text/javascript", "javascript"),
        ("a.ts", "let a: number", "text/x-typescript", "typescript"),
        ("a.go", "package main", "text/x-go", "go"),
        ("a.rs", "fn main() {}", "text/x-rust", "rust"),
        ("a.cpp", "#include <a>", "text/x-c++", "c++"),
        ("a.sql", "SELECT 1;", "application/sql", "sql"),
        ("a.css", "p { }", "text/css", "css"),
        ("a.vue", "<template><p></template>", "text/x-vue", "vue"),
        ("../src/Dockerfile", "FROM x", "text/x-dockerfile", "dockerfile"),
        ("C:\\x\\Makefile", "all:\n", "text/x-makefile", "makefile"),
        ("README.md", "<p align=center>\n\n# Title", "text/markdown", ""),
        ("a.csv", "one column\nonly\n", "text/csv", ""),
        ("a.tsv", "a\tb\n", "text/tab-separated-values", ""),
        ("a.json", ' {"a": 1}', "application/json", ""),
        ("a.json", "this is no JSON", "text/plain", ""),
        ("a.yaml", "a: 1", "application/yaml", ""),
        ("a.txt", "a;b\n1;2\n3;4\n", "text/plain", ""),
        ("a.log", "plain words", "text/plain", ""),
    ],
)
def test_the_name_decides_among_kinds_of_text(filename, text, content_type, language):
    found = typed(text, filename, "application/pdf")

    assert (found.content_type, found.language) == (content_type, language)


@pytest.mark.parametrize(
    ("declared", "text", "content_type"),
    [
        ("text/csv; charset=utf-8", "a\nb\n", "text/csv"),
        ("TEXT/MARKDOWN", "words", "text/markdown"),
        ("text/x-python", "import os", "text/x-python"),
        ("application/json", "words", "text/plain"),
        ("image/png", "words", "text/plain"),
        ("text/html", "words", "text/plain"),
    ],
)
def test_what_was_declared_counts_where_the_name_tells_nothing(declared, text, content_type):
    assert typed(text, "unnamed", declared).content_type == content_type


@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        ('{"a": [1, 2]}', "application/json"),
        ("[1, 2]", "application/json"),
        ("[Section]\nkey=value\n", "text/plain"),
        ("a;b;c\n1;2;3\n4;5;6\n", "text/csv"),
        ("a\tb\n1\t2\n3\t4\n", "text/tab-separated-values"),
        ("Dear all,\nthis is, as you know, a letter.\nBye\n", "text/plain"),
    ],
)
def test_without_name_and_declaration_the_likeness_decides(text, content_type):
    assert typed(text).content_type == content_type


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"\x1f\x8b\x08\0\0\0\0\0\0\3", "application/gzip"),
        (b"7z\xbc\xaf'\x1c\0\4\0\0", "application/x-7z-compressed"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4"),
        (b"RIFF\x24\0\0\0WAVEfmt \x10\0\0\0", "audio/wav"),
        (b"fLaC\0\0\0\x22" + bytes(30), "audio/flac"),
        (b"a.txt" + bytes(252) + b"ustar\x0000" + bytes(249), "application/x-tar"),
        (b"\x7fELF\2\1\1" + bytes(9) + b"\3\0>\0", "application/x-elf"),
        (b"MZ" + bytes(62) + b"PE\0\0d\x86", "application/vnd.microsoft.portable-executable"),
        (b"PAR1\x15\4\0\0", "application/vnd.apache.parquet"),
        (b"SQLite format 3\0\x10\0", "application/vnd.sqlite3"),
        (b"junk of a mailer\r\n\r\n%PDF-1.4\n\x80\x81\0 %%EOF", "application/pdf"),
        (bytes(range(256)), "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_binary_files_are_named_by_their_bytes_alone(tmp_path: Path, content, content_type):
    file = tmp_path / "file"
    file.write_bytes(content)

    assert find_type(file, "page.html", "text/html").content_type == content_type


@pytest.mark.parametrize(
    "hostile",
    ["<!--" * 1024, "<!DOCTYPE [" * 400, "<?xml ?>" + "<?a" * 1300, "<!DOCTYPE " + "<" * 4000, "#!" + "/" * 4000],
)
def test_no_beginning_takes_long_to_judge(hostile):
    assert typed(hostile).content_type in {"application/xml", "text/html", "text/plain"}


@given(st.text(), st.text(), st.text())
def test_any_text_has_a_type_that_is_one_of_text(text, filename, declared):
    found = typed(text, filename, declared)

    assert found.parser is not None or found.content_type in {"application/rtf", "application/postscript"}
