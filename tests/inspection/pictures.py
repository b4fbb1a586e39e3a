"""Pictures: honest ones by Pillow, and headers that lie."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

from PIL import Image, PngImagePlugin

ORIENTATION = 0x0112
GPS = 0x8825


def gradient(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """Dark at the left, bright at the right, so that one sees what is up."""
    return Image.linear_gradient("L").rotate(90).resize((width, height)).convert(mode)


def encoded(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width: int, height: int, orientation: int) -> bytes:
    """What a phone makes: the camera's position, the place, a comment."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif.get_ifd(GPS)[2] = (52.0, 31.0, 12.0)
    exif[0x010E] = "SECRET-COMMENT"
    return encoded(gradient(width, height), "JPEG", exif=exif, comment=b"SECRET-COMMENT", icc_profile=b"SECRET" * 40)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of_zeros(width: int, height: int) -> bytes:
    """A picture of one bit a pixel, all black, packed as well as can be."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    packed = b"".join([packer.compress(row) for _ in range(height)]) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def resized_header(kind: str, width: int, height: int) -> bytes:
    """A small picture whose header promises a huge one."""
    content = bytearray(encoded(gradient(64, 64), kind))
    where: dict[str, tuple[Callable[[bytearray], int], str, tuple[int, int]]] = {
        "GIF": (lambda _: 6, "<HH", (width, height)),
        "BMP": (lambda _: 18, "<II", (width, height)),
        "JPEG": (lambda data: data.index(b"\xff\xc0") + 5, ">HH", (height, width)),
        "WEBP": (lambda data: data.index(b"\x9d\x01\x2a") + 3, "<HH", (width, height)),
        "AVIF": (lambda data: data.index(b"ispe") + 8, ">II", (width, height)),
        # Two entries of its directory, one after the other: the tag, a long, one of it, the value.
        "TIFF": (
            lambda data: data.index(b"\x00\x01\x04\x00\x01\x00\x00\x00"),
            "<HHII HHII",
            (256, 4, 1, width, 257, 4, 1, height),
        ),
    }
    place, form, sizes = where[kind]
    struct.pack_into(form, content, place(content), *sizes)
    return bytes(content)


def png_with_packed_words(mebibytes: int) -> bytes:
    """A small picture with a comment that unpacks to so many MiB of blanks."""
    comment = b"Comment\0\0" + zlib.compress(b" " * (mebibytes * 1024 * 1024), 9)
    picture = encoded(gradient(9, 9), "PNG")
    return picture[:33] + _chunk(b"zTXt", comment) + picture[33:]


def with_text_chunk(picture: Image.Image, text: str) -> bytes:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Comment", text)
    return encoded(picture, "PNG", pnginfo=notes)
