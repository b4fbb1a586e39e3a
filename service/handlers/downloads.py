"""Files on their way out: whole or in ranges (RFC 9110, sections 13, 14), never such that a browser renders them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import msgspec
from litestar import Request, Response
from litestar.response import Stream

from service.blobs import BlobMissing, BlobStore
from service.domain.errors import AttachmentNotFound, Fault, InvalidRequest, RangeNotSatisfiable
from service.handlers.head_requests import wants_head_only
from service.store.blobs import Stored

SAFE_HEADERS = {  # and `nosniff`, which is on every answer
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}
"""On every download, whatever its type says. `no-cache`: kept copies are asked for again, and 304 is cheap."""

RANGE = re.compile(r"bytes=[ \t]*(?:(?P<first>[0-9]{1,18})-(?P<last>[0-9]{0,18})|-(?P<suffix>[0-9]{1,18}))[ \t]*")
"""One range. More of them at once are answered with the whole file, as RFC 9110, section 14.2, allows."""

UNFIT_FOR_ASCII_NAMES = re.compile(r'[^\x20-\x7e]|["\\%;]')
"""Kept out of the plain `filename`, which old clients read: RFC 6266, appendix D."""

TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')


class Span(msgspec.Struct, frozen=True):
    """A part of a file: from `start` up to, and without, `end`."""

    start: int
    end: int


class Download(msgspec.Struct, frozen=True, kw_only=True):
    """What is handed out: the object, its media type and its name."""

    blob: Stored
    media_type: str
    filename: str


async def download(request: Request[Any, Any, Any], blobs: BlobStore, file: Download) -> Response[Any]:
    """Answer GET and HEAD: 200, 206 for one range, 304 where the caller has it already.

    Raises:
        RangeNotSatisfiable: the range begins behind the end.
        InvalidRequest: If-None-Match cannot be read.
        AttachmentNotFound: the file was deleted this very moment.
        StorageUnavailable.
    """
    blob = file.blob
    tag = f'"{blob.sha256.hex()}"'
    headers = SAFE_HEADERS | {"ETag": tag, "Accept-Ranges": "bytes"}
    if _is_known(request.headers.get("if-none-match"), tag):
        return Response(content=None, status_code=304, headers=headers)
    headers["Content-Disposition"] = content_disposition(file.filename)
    headers["Content-Type"] = file.media_type  # as a header of ours: the framework would add a charset that it made up
    span = _span(request, blob.size, tag)
    if span is None:
        status, span = 200, Span(0, blob.size)
    else:
        status = 206
        headers["Content-Range"] = f"bytes {span.start}-{span.end - 1}/{blob.size}"
    headers["Content-Length"] = str(span.end - span.start)
    if wants_head_only(request):
        return Response(content=None, status_code=status, headers=headers)
    try:
        chunks = await blobs.get(blob.key, span.start, span.end)
    except BlobMissing as error:
        raise AttachmentNotFound from error
    return Stream(_as_bytes(chunks), status_code=status, headers=headers)


def content_disposition(filename: str) -> str:
    """How a file's name travels: for old clients in ASCII, for all others whole (RFC 6266, section 5)."""
    plain = UNFIT_FOR_ASCII_NAMES.sub("_", filename)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(filename, safe='')}"


def _is_known(header: str | None, tag: str) -> bool:
    if header is None:
        return False
    if header.strip() == "*":
        return True
    tags = [f'"{value}"' for value in TAG.findall(header)]
    if not tags:
        raise InvalidRequest([Fault("header.If-None-Match", f"Entity tags in quotes, such as {tag}")])
    return tag in tags


def _span(request: Request[Any, Any, Any], size: int, tag: str) -> Span | None:
    """The range that is asked for; None: the whole file, which is the answer to what cannot be read, too.

    Raises:
        RangeNotSatisfiable: it begins behind the end.
    """
    match = RANGE.fullmatch(request.headers.get("range", ""))
    if match is None or request.headers.get("if-range", tag).strip() != tag or wants_head_only(request):
        return None
    if match["suffix"] is not None:
        length = int(match["suffix"])
        span = Span(max(0, size - length), size) if length else Span(size, size)
    else:
        first, last = int(match["first"]), int(match["last"] or size)
        if match["last"] and last < first:
            return None
        span = Span(first, min(last + 1, size))
    if span.start >= size:
        raise RangeNotSatisfiable(f"The file has {size} bytes.", size=size)
    return span


async def _as_bytes(chunks: AsyncIterator[memoryview]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield bytes(chunk)
