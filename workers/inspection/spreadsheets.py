"""Workbooks: XLSX, XLSM, XLSB, XLS and ODS, as tables of what their cells show. Formulas are not computed."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zipfile import is_zipfile

from python_calamine import CalamineSheet, CalamineWorkbook, PasswordError

from workers.inspection import compound_files, zip_files
from workers.inspection.limits import SHEETS_MAX
from workers.inspection.reading import Reading
from workers.inspection.refusals import ENCRYPTED, Refusal, Unreadable

ROWS_BETWEEN_LOOKS = 1000

Cell = str | float | bool | datetime | date | time | timedelta


def parse(reading: Reading) -> None:
    """Write the sheets one after the other: a line with the name, then the rows, their cells separated by tabs.

    `rows` are those of all sheets that were read, `columns` those of the widest, from A1 to the last cell that is used.
    """
    if is_zipfile(reading.source):
        with zip_files.open_package(reading.source) as package:
            if zip_files.has_macros(package):
                reading.properties["macros"] = True
            zip_files.refuse_encrypted(package)
    elif compound_files.has_macros(reading.source):
        reading.properties["macros"] = True
    with reading.source.open("rb") as file:
        try:
            workbook = CalamineWorkbook.from_filelike(file)
        except PasswordError:
            raise Unreadable(Refusal.ENCRYPTED, ENCRYPTED) from None
        with workbook:
            _read_sheets(workbook, reading)


def _read_sheets(workbook: CalamineWorkbook, reading: Reading) -> None:
    sheets = len(workbook.sheet_names)
    read = rows = columns = 0
    while read < min(sheets, SHEETS_MAX) and not reading.text.is_cut and not reading.is_out_of_time():
        sheet = workbook.get_sheet_by_index(read)
        last_row, last_column = sheet.end or (-1, -1)
        rows += last_row + 1
        columns = max(columns, last_column + 1)
        _write(sheet, reading)
        read += 1
        reading.say_progress(read / sheets)
    reading.properties["sheets"] = sheets
    reading.properties["rows"] = rows
    reading.properties["columns"] = columns
    if read < sheets:
        reading.properties["sheets_read"] = read
        reading.text.cut()


def _write(sheet: CalamineSheet, reading: Reading) -> None:
    reading.text.write(f"# {sheet.name}\n")
    for number, row in enumerate(sheet.iter_rows()):
        reading.text.write("\t".join(map(_shown, row)).rstrip("\t") + "\n")
        if reading.text.is_cut:
            return
        if number % ROWS_BETWEEN_LOOKS == 0 and reading.is_out_of_time():
            reading.text.cut()
            return
    reading.text.write("\n")


def _shown(cell: Cell) -> str:
    """A cell as its sheet shows it, more or less, in one line and without a tab."""
    if isinstance(cell, bool):
        return str(cell).upper()
    if isinstance(cell, float) and cell.is_integer():
        return f"{cell:.0f}"
    if isinstance(cell, datetime | date | time):
        return cell.isoformat(" ") if isinstance(cell, datetime) else cell.isoformat()
    return " ".join(str(cell).split()) if isinstance(cell, str) else str(cell)
