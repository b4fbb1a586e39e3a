"""PDF: how many pages, their text, and what the first one looks like."""

from __future__ import annotations

import pypdfium2
from pypdfium2 import PdfDocument, PdfiumError

from workers.inspection.images import write_thumbnail
from workers.inspection.limits import PAGES_MAX, THUMBNAIL_SIDE_MAX
from workers.inspection.reading import Reading
from workers.inspection.refusals import ENCRYPTED, Refusal, Unreadable

PAGE_CHARACTERS_MAX = 1_000_000
"""Of one page: a hundred times what can be read on one."""


def parse(reading: Reading) -> None:
    """Write the text of the pages, then draw the first. Drawing may break where reading did not: it comes last."""
    try:
        document = PdfDocument(reading.source)
    except PdfiumError as error:
        if error.err_code == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise Unreadable(Refusal.ENCRYPTED, ENCRYPTED) from None
        raise
    with document:
        _read_pages(document, reading)
        reading.say_understood()
        _draw_first_page(document, reading)


def _read_pages(document: PdfDocument, reading: Reading) -> None:
    """Write the text of the first pages, as many as there are, can be found, and there is time for."""
    pages = len(document)
    reading.properties["pages"] = pages
    read = 0
    while read < min(pages, PAGES_MAX) and not reading.text.is_cut and not reading.is_out_of_time():
        try:
            page = document[read]
        except PdfiumError:  # the count promises more pages than there are, or this one is broken
            if read == 0:
                raise
            break
        text_page = page.get_textpage()
        characters = min(text_page.count_chars(), PAGE_CHARACTERS_MAX)
        if characters > 0:
            text = text_page.get_text_range(0, characters)
            reading.text.write(text.replace("\r\n", "\n").replace("\x02", "").rstrip() + "\n\n")  # 2 is a soft hyphen
        text_page.close()
        page.close()
        read += 1
        reading.say_progress(read / pages)
    if read < pages:
        reading.properties["pages_read"] = read
        reading.text.cut()


def _draw_first_page(document: PdfDocument, reading: Reading) -> None:
    try:
        page = document[0]
        scale = THUMBNAIL_SIDE_MAX / max(*page.get_size(), 1)
        picture = page.render(scale=scale).to_pil()
    except (PdfiumError, ValueError):  # a page without a size, for one
        return
    write_thumbnail(picture, 1, reading.thumbnail)
