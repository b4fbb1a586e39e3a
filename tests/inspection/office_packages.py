"""Office files and archives made by hand: what no honest program writes."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterable, Mapping

WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
EXCEL = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
SHEETS = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
WORDS = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"

Content = bytes | str | Iterable[bytes]


def package(parts: Mapping[str, Content]) -> bytes:
    """A ZIP file of these members; large ones are given in pieces."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            with archive.open(name, "w") as member:
                for piece in [content] if isinstance(content, bytes | str) else content:
                    member.write(piece.encode() if isinstance(piece, str) else piece)
    return buffer.getvalue()


def changed(original: bytes, changes: Mapping[str, Content]) -> bytes:
    """A package in which some parts are others, or new."""
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        return package({name: archive.read(name) for name in archive.namelist()} | dict(changes))


def part_of(original: bytes, name: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        return archive.read(name)


def _office(main_type: str, main: str) -> dict[str, Content]:
    return {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        f'<Override PartName="/{main}" ContentType="{main_type}.main+xml"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{RELATIONS}"><Relationship Id="rId1" '
        f'Type="{OFFICE_RELATIONS}/officeDocument" Target="{main}"/></Relationships>',
    }


def docx(document: Content) -> bytes:
    """A document of this one part."""
    return package(_office(WORD, "word/document.xml") | {"word/document.xml": document})


def docx_body(body: str, declarations: str = "") -> bytes:
    """A document with this body."""
    return docx(
        f'<?xml version="1.0"?>{declarations}<w:document xmlns:w="{WORDS}"><w:body>{body}</w:body></w:document>'
    )


def xlsx(rows: str, sheets: int = 1, declarations: str = "") -> bytes:
    """A workbook; all its sheets show the same rows."""
    listed = "".join(f'<sheet name="S{number}" sheetId="{number}" r:id="rId1"/>' for number in range(1, sheets + 1))
    return package(
        _office(EXCEL, "xl/workbook.xml")
        | {
            "xl/workbook.xml": f'<workbook xmlns="{SHEETS}" xmlns:r="{OFFICE_RELATIONS}">'
            f"<sheets>{listed}</sheets></workbook>",
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{RELATIONS}"><Relationship Id="rId1" '
            f'Type="{OFFICE_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',
            "xl/worksheets/sheet1.xml": f'<?xml version="1.0"?>{declarations}'
            f'<worksheet xmlns="{SHEETS}">{rows}</worksheet>',
        }
    )


def cell(reference: str, value: str) -> str:
    row = "".join(filter(str.isdigit, reference))
    return f'<row r="{row}"><c r="{reference}"><v>{value}</v></c></row>'


def overlapping(members: int, unpacked_bytes: int) -> bytes:
    """An archive whose members are all the same bytes of the file."""
    single = package({"0": [b"\0" * unpacked_bytes]})
    start, size = struct.unpack("<II", single[-10:-2])[::-1]
    directory = single[start : start + size]
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, members, members, size * members, start, 0)
    return single[:start] + directory * members + end
