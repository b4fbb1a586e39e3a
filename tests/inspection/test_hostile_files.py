"""Files that mean harm, and the one end that each of them has."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest
from office_packages import cell, changed, docx, docx_body, overlapping, package, part_of, xlsx
from pdf_documents import CATALOG, FONT, HELLO, MIB, ONE_PAGE, bomb, one_page, page, pdf, stream
from pictures import encoded, gradient, photo, png_of_zeros, png_with_packed_words, resized_header
from reports import text_of

from workers.inspection.inspect import InspectionFailed
from workers.inspection.refusals import Refusal

LAUGHS = (
    '<!DOCTYPE x [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefghi", "bcdefghij", strict=True))
    + "]>"
)
STOLEN = '<!DOCTYPE x [<!ENTITY j SYSTEM "file:///etc/passwd">]>'
SVG = '<svg xmlns="http://www.w3.org/2000/svg">%s</svg>'
PARAGRAPH = "<w:p><w:r><w:t>&j;</w:t></w:r></w:p>"
SHEET_WITH_ENTITY = '<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>&j;</t></is></c></row></sheetData>'

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def zeros(mebibytes: int) -> Iterator[bytes]:
    return (bytes(MIB) for _ in range(mebibytes))


def zip_of_names(*names: str) -> bytes:
    return package(dict.fromkeys(names, "root:x:0:0:"))


def zip_with_symlink() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("innocent.txt")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    return buffer.getvalue()


def nested_zip(levels: int) -> bytes:
    content = package({"0": zeros(50)})
    for _ in range(levels):
        content = package({str(number): content for number in range(16)})
    return content


def docx_that_lies_about_its_size() -> bytes:
    honest = docx(zeros(50))
    with zipfile.ZipFile(io.BytesIO(honest)) as archive:
        size = archive.getinfo("word/document.xml").file_size
    return honest.replace(size.to_bytes(4, "little"), (100).to_bytes(4, "little"))


def pdf_of_objects(*more: bytes, resources: bytes = b"/Font<</F1 5 0 R>>", content: bytes = HELLO) -> bytes:
    return pdf([CATALOG, ONE_PAGE, page(resources=resources), stream(content), FONT, *more])


def pdf_of_nested_forms(levels: int) -> bytes:
    form = b"/Type/XObject/Subtype/Form/BBox[0 0 600 700]"
    forms = [
        stream(b"/I Do " * 10, form + b"/Resources<</XObject<</I %d 0 R>>>>" % (number + 1))
        for number in range(6, 6 + levels)
    ]
    return pdf_of_objects(*forms, stream(b"0 0 m 9 9 l S", form), resources=b"/XObject<</I 6 0 R>>", content=b"/I Do")


def pdf_with_font(program: bytes) -> bytes:
    font = b"<</Type/Font/Subtype/TrueType/BaseFont/X/FontDescriptor 6 0 R/FirstChar 0/LastChar 1/Widths[1e30 -1e30]>>"
    descriptor = b"<</Type/FontDescriptor/FontName/X/Flags 4/FontFile2 7 0 R>>"
    return pdf([CATALOG, ONE_PAGE, page(), stream(HELLO), font, descriptor, stream(program)])


def pdf_with_calculator(depth: int) -> bytes:
    function = stream(b"{" * depth + b"}" * depth, b"/FunctionType 4/Domain[0 1]/Range[0 1]")
    shading = b"/Shading<</S<</ShadingType 2/ColorSpace/DeviceGray/Coords[0 0 9 9]/Function 6 0 R>>>>"
    return pdf_of_objects(function, resources=shading, content=b"/S sh")


def pdf_with_actions() -> bytes:
    action = (
        b"<</S/JavaScript/JS(app.alert\\(1\\))/Next<</S/Launch/F(/bin/sh)/Next<</S/URI/URI(http://127.0.0.1:1)>>>>>>"
    )
    catalog = b"<</Type/Catalog/Pages 2 0 R/OpenAction %s>>" % action
    return pdf([catalog, ONE_PAGE, page(), stream(HELLO), FONT])


def locked_odt(original: bytes) -> bytes:
    manifest = part_of(original, "META-INF/manifest.xml").replace(
        b"</manifest:manifest>",
        b'<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml">'
        b"<manifest:encryption-data/></manifest:file-entry></manifest:manifest>",
    )
    return changed(original, {"META-INF/manifest.xml": manifest, "content.xml": bytes(range(256))})


class Case(NamedTuple):
    name: str
    content: Callable[[Callable[[str], bytes]], bytes]
    filename: str
    outcome: str | Refusal
    """The content type of a file that is ready, or why it is not."""
    text: str | None = None
    """What is in the text of a file that is ready; None: it has none."""


def zip_bombs() -> Iterator[Case]:
    limit = Refusal.DECOMPRESSION_LIMIT
    yield Case("195 kB that unpack to 200 MB", lambda _: package({"0": zeros(200)}), "a.zip", limit)
    yield Case("the same as a document", lambda _: docx(zeros(200)), "a.docx", limit)
    yield Case("members that overlap", lambda _: overlapping(2000, MIB), "a.zip", limit)
    yield Case("archives in archives", lambda _: nested_zip(3), "a.zip", "application/zip")
    yield Case("a document that lies about its size", lambda _: docx_that_lies_about_its_size(), "a", Refusal.DAMAGED)
    yield Case("a way out of the folder", lambda _: zip_of_names("../../etc/passwd", "/etc/x"), "a", "application/zip")
    yield Case("a symbolic link", lambda _: zip_with_symlink(), "a.zip", "application/zip")
    yield Case("names of nothing good", lambda _: zip_of_names("CON", "a\nb", "x" * 60_000), "a", "application/zip")


def picture_bombs() -> Iterator[Case]:
    limit = Refusal.DECOMPRESSION_LIMIT
    yield Case("20,000 × 20,000 in 49 kB", lambda _: png_of_zeros(20_000, 20_000), "a.png", limit)
    yield Case("900 megapixels of one bit", lambda _: png_of_zeros(30_000, 30_000), "a.png", limit)
    yield Case("a GIF of 4 gigapixels", lambda _: resized_header("GIF", 65_535, 65_535), "a.gif", limit)
    yield Case("a BMP of 4 gigapixels", lambda _: resized_header("BMP", 65_535, 65_535), "a.bmp", limit)
    yield Case("a JPEG of 4 gigapixels", lambda _: resized_header("JPEG", 65_500, 65_500), "a.jpg", limit)
    yield Case("a WebP of 268 megapixels", lambda _: resized_header("WEBP", 16_383, 16_383), "a.webp", Refusal.DAMAGED)
    yield Case("a TIFF of 16 exapixels", lambda _: resized_header("TIFF", 2**32 - 1, 2**32 - 1), "a.tif", limit)
    yield Case("an AVIF of 4 gigapixels", lambda _: resized_header("AVIF", 65_535, 65_535), "a.avif", Refusal.DAMAGED)
    yield Case("a PNG with a comment of 300 MiB", lambda _: png_with_packed_words(300), "a.png", Refusal.DAMAGED)
    yield Case("a GIF that is larger than its data", lambda _: resized_header("GIF", 999, 999), "a.gif", "image/gif")


def pdf_bombs() -> Iterator[Case]:
    limit = Refusal.DECOMPRESSION_LIMIT
    yield Case("a page of 300 MiB of blanks", lambda _: bomb(b" " * MIB, 300), "a.pdf", limit)
    yield Case("a page of millions of words", lambda _: bomb(HELLO * 20_000, 300), "a.pdf", limit)
    yield Case("forms in forms, 10 to the 14th", lambda _: pdf_of_nested_forms(14), "a.pdf", limit)
    yield Case(
        "arrays a million deep", lambda _: pdf_of_objects(b"[" * 10**6 + b"]" * 10**6), "a.pdf", "application/pdf", "H"
    )
    yield Case(
        "a million pages that are not there",
        lambda _: pdf([CATALOG, b"<</Type/Pages/Kids[3 0 R]/Count 1000000>>", page(), stream(HELLO), FONT]),
        "a.pdf",
        "application/pdf",
        "Hello World",
    )
    yield Case(
        "pages that contain themselves",
        lambda _: pdf([CATALOG, b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 9>>", page(), stream(HELLO), FONT]),
        "a.pdf",
        Refusal.DAMAGED,
    )
    yield Case("a font of noise", lambda _: pdf_with_font(bytes(range(256)) * 64), "a.pdf", "application/pdf", "Hel")
    yield Case("a calculator of braces", lambda _: pdf_with_calculator(10**5), "a.pdf", "application/pdf")
    yield Case("scripts and programs", lambda _: pdf_with_actions(), "a.pdf", "application/pdf", "Hello World")


def xml_bombs() -> Iterator[Case]:
    limit = Refusal.DECOMPRESSION_LIMIT
    svg, xml = "image/svg+xml", "application/xml"
    yield Case("a billion laughs in a document", lambda _: docx_body(PARAGRAPH, LAUGHS), "a.docx", limit)
    yield Case("a file of ours in a document", lambda _: docx_body(PARAGRAPH, STOLEN), "a.docx", limit)
    yield Case("a billion laughs in a sheet", lambda _: xlsx(SHEET_WITH_ENTITY, 1, LAUGHS), "a.xlsx", Refusal.DAMAGED)
    yield Case("a file of ours in a sheet", lambda _: xlsx(SHEET_WITH_ENTITY, 1, STOLEN), "a.xlsx", Refusal.DAMAGED)
    yield Case("a billion laughs", lambda _: f'<?xml version="1.0"?>{LAUGHS}<x>&j;</x>'.encode(), "a", xml, "&j;")
    yield Case("a file of ours", lambda _: f'<?xml version="1.0"?>{STOLEN}<x>&j;</x>'.encode(), "a", xml, "&j;")
    yield Case("laughs in a picture", lambda _: f"{LAUGHS}{SVG}".encode() % b"<text>&j;</text>", "a", svg, "&j;")
    yield Case("a picture with a script", lambda _: (SVG % "<script>x</script>").encode(), "a.svg", svg, "<script>")
    yield Case(
        "200,000 elements deep",
        lambda _: docx_body("<w:p>" * 200_000 + "<w:t>down here</w:t>" + "</w:p>" * 200_000),
        "a.docx",
        WORD,
        "down here",
    )


def table_bombs() -> Iterator[Case]:
    limit = Refusal.DECOMPRESSION_LIMIT
    corners = "<sheetData>" + cell("A1", "1") + cell("XFD1048576", "2") + "</sheetData>"
    declared = '<dimension ref="A1:XFD1048576"/><sheetData>' + cell("A1", "42") + "</sheetData>"
    yield Case("cells in opposite corners", lambda _: xlsx(corners), "a.xlsx", limit)
    yield Case("a size that is only declared", lambda _: xlsx(declared), "a.xlsx", EXCEL, "42")
    yield Case("a million sheets", lambda _: xlsx(declared, sheets=10**6), "a.xlsx", EXCEL, "# S100\n")
    yield Case("a line of 50 MB", lambda _: b"a," * 25_000_000, "a.csv", "text/csv", "a,a,a")
    yield Case("a quote that never ends", lambda _: b'a,b\n"' + b"c,d\n" * 10**6, "a.csv", "text/csv", "c,d")
    yield Case("a page 100,000 deep", lambda _: b"<div>" * 10**5 + b"down here", "a.html", "text/html", "down here")
    yield Case(
        "XML 100,000 deep", lambda _: b"<?xml version='1.0'?>" + b"<a>" * 10**5, "a.xml", "application/xml", "<a>"
    )
    yield Case("JSON 100,000 deep", lambda _: b"[" * 10**5 + b"]" * 10**5, "a.json", "application/json", "[[[")
    yield Case("the same without a name", lambda _: b"[" * 10**5 + b"]" * 10**5, "a", "text/plain", "[[[")


def masquerades() -> Iterator[Case]:
    page_text = b"<!DOCTYPE html><script>alert(1)</script>seen"
    gif = encoded(gradient(20, 20), "GIF")
    macro_types = b"application/vnd.ms-word.document.macroEnabled.main+xml"
    yield Case("a page named as a picture", lambda _: page_text, "a.png", "text/html", "seen")
    yield Case("a picture that is a page, too", lambda _: gif + page_text, "a.gif", "image/gif")
    yield Case("a photo that is an archive, too", lambda _: photo(30, 20, 1) + zip_of_names("../x"), "a", "image/jpeg")
    yield Case(
        "a PDF that is an archive, too", lambda _: one_page() + zip_of_names("../x"), "a", "application/pdf", "Hello"
    )
    yield Case("a picture by its first bytes alone", lambda _: b"GIF89a" + page_text, "a.gif", Refusal.DAMAGED)
    yield Case("noise with the head of a picture", lambda _: b"\x89PNG\r\n\x1a\n" + b"\7" * 999, "a", Refusal.DAMAGED)
    yield Case("noise with the head of a PDF", lambda _: b"%PDF-1.7\n" + bytes(range(256)), "a.pdf", Refusal.DAMAGED)
    yield Case("noise named as a PDF", lambda _: bytes(range(256)) * 9, "a.pdf", "application/octet-stream")
    yield Case("a program of PostScript", lambda _: b"%!PS\n{} loop", "a.ps", "application/postscript")
    yield Case("nothing at all", lambda _: b"", "a.pdf", "application/octet-stream")
    yield Case(
        "a document with macros",
        lambda sample: changed(
            sample("offer.docx"),
            {
                "word/vbaProject.bin": b"\xd0\xcf\x11\xe0Sub AutoOpen()",
                "[Content_Types].xml": part_of(sample("offer.docx"), "[Content_Types].xml").replace(
                    f"{WORD}.main+xml".encode(), macro_types
                ),
            },
        ),
        "a.docm",
        "application/vnd.ms-word.document.macroenabled.12",
        "Angebot für Müller",
    )
    yield Case(
        "a workbook with macros under another name",
        lambda sample: changed(sample("prices.xlsx"), {"xl/vbaProject.bin": b"Sub Auto_Open()"}),
        "a.xlsx",
        EXCEL,
        "Schrauben",
    )


def locked_and_cut() -> Iterator[Case]:
    yield Case("a PDF with a password", lambda sample: sample("locked.pdf"), "a.pdf", Refusal.ENCRYPTED)
    yield Case("a document with a password", lambda sample: sample("locked.docx"), "a.docx", Refusal.ENCRYPTED)
    yield Case("a text with a password", lambda sample: locked_odt(sample("letter.odt")), "a.odt", Refusal.ENCRYPTED)
    for name in ("offer.docx", "prices.xlsx", "talk.pptx", "letter.odt"):
        yield Case(f"half of {name}", lambda sample, n=name: half(sample(n)), name, Refusal.DAMAGED)
    yield Case("half of a photo", lambda _: half(photo(300, 200, 1)), "a.jpg", Refusal.DAMAGED)
    for kind in ("PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF"):
        yield Case(f"half of a {kind}", lambda _, k=kind: half(encoded(gradient(99, 99), k)), "a", Refusal.DAMAGED)
    yield Case("half of a PDF", lambda _: half(one_page()), "a.pdf", Refusal.DAMAGED)
    yield Case("a PDF without its last lines", lambda _: one_page()[:-20], "a.pdf", "application/pdf", "Hello World")
    yield Case("half of an old workbook", lambda sample: half(sample("old.xls")), "a", "application/x-ole-storage")
    yield Case("half of a character", lambda _: "words ä".encode()[:-1], "a.txt", "text/plain", "words \ufffd")


def half(content: bytes) -> bytes:
    return content[: len(content) // 2]


CASES = [
    *zip_bombs(),
    *picture_bombs(),
    *pdf_bombs(),
    *xml_bombs(),
    *table_bombs(),
    *masquerades(),
    *locked_and_cut(),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_every_hostile_file_has_its_one_end(look, sample, case: Case):
    content = case.content(sample)

    if isinstance(case.outcome, Refusal):
        with pytest.raises(InspectionFailed) as failed:
            await look(content, case.filename)

        assert failed.value.code == case.outcome, failed.value.cause
        assert failed.value.content_type is not None
        assert not failed.value.is_transient
    else:
        report = await look(content, case.filename)

        assert report.content_type == case.outcome
        assert (case.text in text_of(report)) if case.text else report.text is None
        assert "root:" not in (text_of(report) if report.text else "")


async def test_macros_are_told_of(look, sample):
    report = await look(changed(sample("offer.docx"), {"word/vbaProject.bin": b"Sub AutoOpen()"}), "a.docx")

    assert report.properties["macros"] is True
