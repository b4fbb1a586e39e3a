"""Files as programs write them: what is in them comes out, in order."""

from __future__ import annotations

import pytest
from reports import text_of

from service.domain.attachment import AttachmentType

OOXML = "application/vnd.openxmlformats-officedocument."
ODF = "application/vnd.oasis.opendocument."


async def test_a_word_document_gives_its_paragraphs_and_tables_in_order(look, sample):
    report = await look(sample("offer.docx"), "offer.docx")

    assert (report.content_type, report.attachment_type) == (f"{OOXML}wordprocessingml.document", "document")
    assert text_of(report).splitlines() == [
        "Angebot für Müller & Söhne",
        "Preis: 1.200 € “netto”, zahlbar bis morgen.",
        "erster Punkt",
        "zweiter Punkt",
        "Artikel\tMenge\tPreis",
        "Schrauben\t100\t12,50 €",
        "Dübel\t20\t3,00 €",
        "Nach der Tabelle",
        "neue Zeile\tmit Tabulator",
    ]
    assert report.properties == {"text_length": len(text_of(report))}


async def test_a_workbook_gives_its_sheets_with_their_names_and_what_the_cells_show(look, sample):
    report = await look(sample("prices.xlsx"), "prices.xlsx")

    assert (report.content_type, report.attachment_type) == (f"{OOXML}spreadsheetml.sheet", "data")
    assert text_of(report).splitlines() == [
        "# Preise",
        "Artikel\tMenge\tPreis\tDatum\tLieferbar",
        "Schrauben\t100\t12.5\t2026-01-31\tTRUE",
        "Dübel\t20\t3\t2026-02-01\tFALSE",
        "Summe\t120",
        "",
        "# Leer & mehr",
        "",
        "",
        "allein",
        "",
    ]
    assert report.properties == {"sheets": 2, "rows": 7, "columns": 5, "text_length": len(text_of(report))}


async def test_a_presentation_gives_its_slides_in_the_order_in_which_they_are_shown(look, sample):
    report = await look(sample("talk.pptx"), "talk.pptx")

    assert (report.content_type, report.attachment_type) == (f"{OOXML}presentationml.presentation", "document")
    assert [slide.splitlines() for slide in text_of(report).strip().split("\n\n")] == [
        ["Dritte Folie, die zuerst kommt"],
        ["Erste Folie", "ein Punkt", "noch ein Punkt"],
        ["Zweite Folie", "Zelle 00\tZelle 01", "Zelle 10\tZelle 11"],
    ]
    assert report.properties["slides"] == 3


@pytest.mark.parametrize(
    ("name", "content_type", "attachment_type", "text"),
    [
        ("letter.odt", f"{ODF}text", "document", "Überschrift\nEin Absatz mit betontem Wort.\na\tb\nc\td\nEnde\n"),
        ("slides.odp", f"{ODF}presentation", "document", "Folie eins\nFolie zwei\n"),
        ("sheet.ods", f"{ODF}spreadsheet", "data", "# Blatt\nName\tWert\nÄpfel\t3\n\n"),
        ("old.xls", "application/vnd.ms-excel", "data", "# Alt\nGröße\t42\n\n"),
        ("object_streams.pdf", "application/pdf", "document", "Hello World\n\n"),
        ("owner_locked.pdf", "application/pdf", "document", "Hello World\n\n"),  # everybody may open it
        ("book.epub", "application/epub+zip", "document", None),
    ],
)
async def test_other_documents_are_told_apart_by_what_is_in_them(
    look, sample, name, content_type, attachment_type, text
):
    report = await look(sample(name), "renamed.bin", "application/x-wrong")

    assert (report.content_type, report.attachment_type) == (content_type, AttachmentType(attachment_type))
    assert (text_of(report) if report.text else None) == text
