"""PDF files made by hand: small, large, odd and hostile."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

CATALOG = b"<</Type/Catalog/Pages 2 0 R>>"
ONE_PAGE = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
HELLO = b"BT /F1 24 Tf 72 700 Td (Hello World) Tj ET"

MIB = 1024 * 1024


def pdf(objects: Sequence[bytes]) -> bytes:
    """A document of these objects, the first of which is the catalog."""
    out = bytearray(b"%PDF-1.7\n")
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n" % number + body + b"\nendobj\n"
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    out += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(out)


def page(box: bytes = b"0 0 612 792", resources: bytes = b"/Font<</F1 5 0 R>>") -> bytes:
    """A page that shows object 4."""
    return b"<</Type/Page/Parent 2 0 R/MediaBox[%s]/Contents 4 0 R/Resources<<%s>>>>" % (box, resources)


def stream(content: bytes, entries: bytes = b"") -> bytes:
    """A stream, as it is."""
    return b"<</Length %d%s>>stream\n" % (len(content), entries) + content + b"\nendstream"


def one_page(content: bytes = HELLO) -> bytes:
    """A document of one page."""
    return pdf([CATALOG, ONE_PAGE, page(), stream(content), FONT])


def many_pages(pages: int, content: bytes, filler_bytes: int = 0) -> bytes:
    """A document whose pages all show the same, and which is as heavy as wanted."""
    kids = b" ".join(b"%d 0 R" % number for number in range(7, 7 + pages))
    tree = b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, pages)
    filler = stream(bytes(range(256)) * (filler_bytes // 256))
    return pdf([CATALOG, tree, b"null", stream(content), FONT, filler, *[page()] * pages])


def bomb(unit: bytes, times: int) -> bytes:
    """A page whose content is packed twice."""
    packer = zlib.compressobj(9)
    packed = b"".join([packer.compress(unit) for _ in range(times)]) + packer.flush()
    content = stream(zlib.compress(packed, 9), b"/Filter[/FlateDecode/FlateDecode]")
    return pdf([CATALOG, ONE_PAGE, page(), content, FONT])
