"""Versions over HTTP (RFC 9110, section 13): ETag, If-Match, If-None-Match."""

from __future__ import annotations

import re
from typing import Any

from litestar import Request

from service.domain.errors import Fault, InvalidRequest

TAG = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')
TAG_LIST = re.compile(r'[ \t]*(?:W/)?"[\x21\x23-\x7e]*"(?:[ \t]*,[ \t]*(?:W/)?"[\x21\x23-\x7e]*")*[ \t]*')
TAGS_MAX = 20
VERSION_DIGITS_MAX = 18
"""Every bigint of 18 digits fits; longer ones are no version of ours."""


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def expected_versions(request: Request[Any, Any, Any]) -> frozenset[int] | None:
    """The versions that If-Match allows; None: any. Weak tags and foreign ones match nothing (strong comparison).

    Raises:
        InvalidRequest: the header cannot be read.
    """
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return None
    return frozenset(
        int(tag)
        for weak, tag in _tags(header, "If-Match")
        if not weak and tag.isascii() and tag.isdigit() and len(tag) <= VERSION_DIGITS_MAX
    )


def is_unchanged(request: Request[Any, Any, Any], version: int) -> bool:
    """Whether If-None-Match names this version: then 304 says it all (weak comparison).

    Raises:
        InvalidRequest: the header cannot be read.
    """
    header = request.headers.get("if-none-match")
    if header is None:
        return False
    return header.strip() == "*" or any(tag == str(version) for _, tag in _tags(header, "If-None-Match"))


def _tags(header: str, name: str) -> list[tuple[str, str]]:
    tags = TAG.findall(header) if TAG_LIST.fullmatch(header) else []
    if not 0 < len(tags) <= TAGS_MAX:
        raise InvalidRequest([Fault(f"header.{name}", f'At most {TAGS_MAX} entity tags in quotes, such as "3"')])
    return tags
