"""What comes out of PDFs, tables, pages, code and archives."""

from __future__ import annotations

import pytest
from office_packages import package
from pdf_documents import HELLO, MIB, many_pages, one_page
from reports import text_of, thumbnail_of

from service.domain.attachment import AttachmentType
from workers.inspection.limits import PAGES_MAX


async def test_a_pdf_gives_its_pages_its_text_and_a_picture_of_the_first_page(look):
    report = await look(one_page(), "letter.pdf", "application/pdf")

    assert (report.content_type, report.attachment_type) == ("application/pdf", AttachmentType.DOCUMENT)
    assert text_of(report) == "Hello World\n\n"
    assert report.properties == {"pages": 1, "text_length": 13}
    assert thumbnail_of(report).size == (396, 512)


async def test_a_pdf_of_50_mib_is_within_the_limits_and_tells_how_far_it_is(look, tmp_path):
    words = b" ".join(b"(Line %d of words) Tj T*" % line for line in range(40))
    big = tmp_path / "big.pdf"
    big.write_bytes(many_pages(1500, b"BT /F1 12 Tf 14 TL 72 700 Td " + words + b" ET", filler_bytes=50 * MIB))
    told: list[float] = []
    report = await look(big, "big.pdf", "application/pdf", report_progress=told.append)

    assert report.properties["pages"] == 1500
    assert "pages_read" not in report.properties
    assert text_of(report).count("Line 39 of words") == 1500
    assert told == sorted(told)
    assert all(0 < done <= 1 for done in told)
    assert report.thumbnail is not None


async def test_of_a_pdf_with_too_many_pages_the_first_are_read_and_it_is_told_how_many(look):
    report = await look(many_pages(PAGES_MAX + 1, HELLO))

    assert text_of(report).count("Hello World") == PAGES_MAX
    assert report.properties["pages"] == PAGES_MAX + 1
    assert report.properties["pages_read"] == PAGES_MAX
    assert report.properties["text_truncated"] is True


@pytest.mark.parametrize(
    ("name", "content", "measured"),
    [
        ("a.csv", b"a,b,c\n1,2,3\n", {"rows": 2, "columns": 3, "delimiter": ","}),
        ("a.csv", b'a;"b\n;b";c\r\n1;2;3\r\n\r\n', {"rows": 2, "columns": 3, "delimiter": ";"}),
        ("a.csv", b"1,5;2,5\n3,5;4,5\n", {"rows": 2, "columns": 2, "delimiter": ";"}),
        ("a.csv", b"a|b\n1|2\n3|4|5\n", {"rows": 3, "columns": 3, "delimiter": "|"}),
        ("a.csv", b"alone\n1\n2\n", {"rows": 3, "columns": 1, "delimiter": ","}),
        ("a.tsv", b"a\tb\n1,5\t2\n", {"rows": 2, "columns": 2, "delimiter": "\t"}),
        ("a.csv", "a,b\nä,€\n".encode("utf-16"), {"rows": 2, "columns": 2, "delimiter": ","}),
    ],
)
async def test_tables_are_measured_by_rows_and_columns(look, name, content, measured):
    report = await look(content, name)

    assert measured.items() <= report.properties.items()
    assert report.attachment_type == AttachmentType.DATA


async def test_a_table_is_measured_beyond_what_its_text_is_cut_to(look):
    report = await look(b"name;value\n" * 200_000, "long.csv", text_bytes_max=1000)

    assert report.properties["rows"] == 200_000
    assert report.properties["text_truncated"] is True
    assert len(report.text.read_bytes()) == 1000


async def test_of_a_page_the_words_come_out_that_a_reader_sees(look):
    report = await look(
        b"""<!DOCTYPE html><html><head><title>T</title><style>p {}</style><script>var hidden = "<p>no</p>";</script>
        <body><h1>Heading &amp; more</h1><p>First   <b>bold</b>
        line<br>second&nbsp;line<!-- no --><noscript>no</noscript>
        <![if !mso]><table><tr><td>a<td>b</tr><tr><th> c <th>d</table><![endif]>
        <ul><li>one<li>two</ul><pre>  keep
          this</pre><template>no</template>end""",
        "page.html",
    )

    assert (report.content_type, report.attachment_type) == ("text/html", AttachmentType.DOCUMENT)
    assert text_of(report).splitlines() == [
        "Heading & more",
        "First bold line",
        "second\xa0line",
        "a\tb",
        "c\td",
        "one",
        "two",
        "  keep",
        "          this",
        "end",
    ]


@pytest.mark.parametrize(
    ("name", "content", "content_type", "attachment_type", "language"),
    [
        ("notes.md", "# Title\n\n*words* ä\n", "text/markdown", "document", None),
        ("notes.txt", "words ä\n", "text/plain", "document", None),
        ("data.json", '{"a": "ä"}', "application/json", "data", None),
        ("data.xml", '<?xml version="1.0"?><a>ä</a>', "application/xml", "data", None),
        ("main.py", "def main() -> None:\n    print('ä')\n", "text/x-python", "code", "python"),
        ("app.ts", "const ä: string = '';\n", "text/x-typescript", "code", "typescript"),
    ],
)
async def test_text_that_is_its_own_meaning_comes_out_as_it_is(
    look, name, content, content_type, attachment_type, language
):
    report = await look(content.encode(), name)

    assert (report.content_type, report.attachment_type) == (content_type, AttachmentType(attachment_type))
    assert text_of(report) == content
    assert report.properties.get("language") == language


async def test_of_an_archive_only_the_members_are_counted(look):
    report = await look(package({"a.txt": "words", "b/c.txt": "more words"}), "files.zip")

    assert (report.content_type, report.attachment_type) == ("application/zip", AttachmentType.OTHER)
    assert (report.properties, report.text) == ({"entries": 2}, None)


async def test_what_was_declared_is_no_fault_when_the_bytes_tell_otherwise(look, sample):
    report = await look(sample("offer.docx"), "photo.png", "image/png")

    assert report.content_type.endswith("wordprocessingml.document")
    assert report.text is not None
