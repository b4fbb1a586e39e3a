"""Files on their way in: a raw body or a form, streamed through SHA-256 into the store. Memory does not grow with them.

Raw: `Content-Type` and `Content-Disposition: attachment; filename*=…` (RFC 6266). Form: RFC 7578, fields `file` and
`metadata` (JSON). Either way the body is read once, and what breaks off is not kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from litestar import Request
from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    content_disposition_unquote,
    parse_options_header,
)

from service.blobs import BlobStore
from service.domain.attachment import DEFAULT_FILENAME, filename_faults, media_type_of
from service.domain.errors import AttachmentTooLarge, Fault, InvalidRequest, RequestTimeout, UnsupportedMediaType
from service.domain.json_flaws import faults_of, faults_of_unparsed
from service.domain.json_text import finite
from service.domain.near_names import shown, with_nearest
from service.domain.session import METADATA_BYTES_MAX

FORM_OVERHEAD_BYTES_MAX = 64 * 1024
"""What boundaries, part headers and the `metadata` field add to a file in a form."""

FIELDS = ("file", "metadata")

METADATA = msgspec.json.Decoder(dict[str, Any], float_hook=finite)

CHARSET_FIELD = "_charset_"
"""A form's own note of its encoding (HTML, 4.10.21.8): names and metadata are read as UTF-8, whatever it says."""

FIELDS_MAX = 4
"""One more than make sense, so that the answer can name the one too many."""

BLOCK_BYTES = 512 * 1024
"""What goes to the store at once: the server's chunks of 64 KiB would cost a crossing of threads each (measured)."""

UPLOAD_SECONDS_MAX = 3600.0
"""100 MiB at 30 KB/s."""

EXTENDED_VALUE = re.compile(r"([A-Za-z0-9_-]+)'[A-Za-z0-9-]*'(.*)", re.DOTALL)
"""RFC 8187, section 3.2.1: charset'language'value, percent-encoded."""

QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
"""RFC 9110, section 5.6.4."""


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is in the store, and what its sender said of it."""

    filename: str
    content_type: str
    metadata: dict[str, Any]
    size: int
    sha256: bytes

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of all that was sent, however it was wrapped: the same file sent again is the same request."""
        return hashlib.sha256(
            msgspec.msgpack.encode([self.filename, self.content_type, self.metadata, self.sha256])
        ).digest()


async def receive(request: Request[Any, Any, Any], blobs: BlobStore, key: str, size_max: int) -> Received:
    """Stream the request's file into the store under `key`.

    Raises:
        AttachmentTooLarge: at once where the sender says how much is coming, else with the first byte too many.
        InvalidRequest: the body breaks off, is no form, lacks the file, or its name or metadata cannot be taken.
        UnsupportedMediaType: the body is encoded.
        StorageFull, StorageUnavailable.
    """
    if request.headers.get("content-encoding"):
        raise UnsupportedMediaType("Send the file as it is, without a Content-Encoding.")
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    is_form = kind == "multipart/form-data"
    announced = _announced(request)
    if announced > size_max + (FORM_OVERHEAD_BYTES_MAX if is_form else 0):
        raise _too_large(size_max)
    if is_form:
        return await _receive_form(request, blobs, key, size_max, options.get("boundary", ""))
    return await _receive_raw(request, blobs, key, size_max)


def _announced(request: Request[Any, Any, Any]) -> int:
    length = request.headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() else 0


async def _receive_raw(request: Request[Any, Any, Any], blobs: BlobStore, key: str, size_max: int) -> Received:
    disposition = request.headers.get("content-disposition", "")
    # Servers hand headers over as Latin-1; what clients put there is UTF-8.
    filename = _filename(disposition, _quoted_string, "latin-1", "header.Content-Disposition")
    size, sha256 = await _store(_body(request), blobs, key, size_max)
    return Received(
        filename=filename,
        content_type=media_type_of(request.headers.get("content-type", "")),
        metadata={},
        size=size,
        sha256=sha256,
    )


def _filename(disposition: str, unquote: Callable[[str, bool], str], read_as: str, path: str) -> str:
    """The name in a Content-Disposition; `filename*` goes before `filename` (RFC 6266, section 4.3).

    `unquote`: what undoes the quotes; `read_as`: the encoding in which the header's bytes were read.

    Raises:
        InvalidRequest: it is encoded wrongly, or no file may have this name.
    """
    _, options = parse_options_header(disposition, unquote=unquote)
    extended = EXTENDED_VALUE.fullmatch(options.get("filename*", ""))
    try:
        if extended is not None:
            name = unquote_to_bytes(extended[2]).decode(_known_charset(extended[1]))
        else:
            name = options.get("filename", "").encode(read_as).decode()
    except (UnicodeError, LookupError):
        raise InvalidRequest(
            [Fault(path, "The file's name is not UTF-8; send filename*=UTF-8''percent-encoded")]
        ) from None
    faults = filename_faults(name, path)
    if faults:
        raise InvalidRequest(faults)
    return name or DEFAULT_FILENAME


def _quoted_string(value: str, _is_filename: bool) -> str:
    """What a parameter of an HTTP header says."""
    return QUOTED_PAIR.sub(r"\1", value[1:-1]) if value.startswith('"') else value


def _form_value(value: str, _is_filename: bool) -> str:
    """What a parameter of a form's part says, as browsers write it; a name that looks like a path is kept, too."""
    return str(content_disposition_unquote(value))


def _known_charset(name: str) -> str:
    """RFC 8187 knows these two; any other codec of Python's might do anything.

    Raises:
        LookupError: it is another one.
    """
    return {"utf-8": "utf-8", "iso-8859-1": "latin-1"}[name.lower()]


async def _receive_form(
    request: Request[Any, Any, Any], blobs: BlobStore, key: str, size_max: int, boundary: str
) -> Received:
    if not 0 < len(boundary) <= 70:  # noqa: PLR2004 - RFC 2046, section 5.1.1
        raise InvalidRequest([Fault("header.Content-Type", "A form needs a boundary of 1 to 70 characters")])
    file: tuple[str, str, int, bytes] | None = None
    metadata: dict[str, Any] | None = None
    events = _form_events(request, boundary, size_max)
    async for segment in events:
        if segment.name == "file" and file is None:
            disposition = segment.header("Content-Disposition")
            filename = _filename(disposition, _form_value, "utf-8", "body.file.filename")
            size, sha256 = await _store(_bytes_of(events), blobs, key, size_max)
            file = (filename, media_type_of(segment.content_type or ""), size, sha256)
        elif segment.name == "metadata" and metadata is None:
            metadata = _metadata(await _small(_bytes_of(events)))
        elif segment.name == CHARSET_FIELD:
            async for _ in _bytes_of(events):
                continue
        else:
            name = "body" if not segment.name else f"body.{shown(segment.name)}"
            is_known = segment.name in FIELDS
            fault = "Given more than once" if is_known else with_nearest("Unknown field", segment.name or "", FIELDS)
            raise InvalidRequest([Fault(name, fault)])
    if file is None:
        raise InvalidRequest([Fault("body.file", "Required")])
    filename, content_type, size, sha256 = file
    return Received(filename=filename, content_type=content_type, metadata=metadata or {}, size=size, sha256=sha256)


async def _form_events(request: Request[Any, Any, Any], boundary: str, size_max: int) -> AsyncGenerator[Any, None]:
    """What the parser finds: a segment, its bytes, None at its end, and so on.

    Raises:
        InvalidRequest: this is no form, or not all of one.
        AttachmentTooLarge: what stands before, between and behind the parts is larger than it can have to be.
    """
    parser = PushMultipartParser(boundary, max_segment_count=FIELDS_MAX)
    size = 0
    try:
        async for chunk in _body(request):
            size += len(chunk)
            if size > size_max + FORM_OVERHEAD_BYTES_MAX:
                raise _too_large(size_max)
            for event in parser.parse(chunk):
                yield event
        parser.close()
    except MultipartError as error:
        raise InvalidRequest([Fault("body", f"Not a whole form: {error.args[0]}")]) from None


async def _bytes_of(events: AsyncGenerator[Any, None]) -> AsyncIterator[bytes]:
    """The bytes of the segment whose head has just been read."""
    while (event := await anext(events, None)) is not None:
        if isinstance(event, MultipartSegment):
            raise InvalidRequest([Fault("body", "Not a whole form")])
        yield event


async def _small(chunks: AsyncIterator[bytes]) -> bytes:
    whole = b""
    async for chunk in chunks:
        whole += chunk
        if len(whole) > METADATA_BYTES_MAX:
            raise InvalidRequest([Fault("body.metadata", f"Larger than {METADATA_BYTES_MAX} bytes of JSON")])
    return whole


def _metadata(text: bytes) -> dict[str, Any]:
    faults = faults_of(text, "body.metadata")
    if faults:
        raise InvalidRequest(faults)
    try:
        return METADATA.decode(text)
    except msgspec.ValidationError:
        raise InvalidRequest([Fault("body.metadata", "Expected a JSON object")]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(faults_of_unparsed(text, error, "body.metadata")) from None


async def _store(chunks: AsyncIterator[bytes], blobs: BlobStore, key: str, size_max: int) -> tuple[int, bytes]:
    """Write the bytes and hash them on their way; size and SHA-256."""
    digest = hashlib.sha256()
    size = 0

    async def measured() -> AsyncIterator[bytes | bytearray]:
        nonlocal size
        block = bytearray()
        async for chunk in chunks:
            size += len(chunk)
            if size > size_max:
                raise _too_large(size_max)
            block += chunk
            if len(block) >= BLOCK_BYTES:
                digest.update(block)
                yield block
                block = bytearray()  # the store still holds the other one
        digest.update(block)
        yield block

    await blobs.put(key, measured())
    return size, digest.digest()


def _too_large(size_max: int) -> AttachmentTooLarge:
    return AttachmentTooLarge(f"The session takes files of at most {size_max} bytes.", max_attachment_size=size_max)


async def _body(request: Request[Any, Any, Any]) -> AsyncIterator[bytes]:
    """The request's body as it comes.

    Time limits end the body, from inside: the store then takes back what it has, which it does not when cut off.

    Raises:
        RequestTimeout: nothing comes any more, or it takes too long.
        InvalidRequest: it breaks off.
    """
    end = asyncio.get_running_loop().time() + UPLOAD_SECONDS_MAX
    while True:
        try:
            async with asyncio.timeout_at(end):
                event: Any = await request.receive()
        except TimeoutError:
            raise RequestTimeout("The file took too long; send it over a faster line, or in parts.") from None
        if event.get("body"):
            yield event["body"]
        if not event.get("more_body", False):
            return
