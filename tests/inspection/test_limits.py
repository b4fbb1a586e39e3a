"""What happens at the limits, tried on a copy of the sources in which they are lower."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from office_packages import xlsx
from pdf_documents import HELLO, many_pages, one_page
from reports import names_in

from workers.inspection import inspect

PROGRAM = textwrap.dedent(
    """
    import asyncio, json, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from workers.inspection.inspect import InspectionFailed, inspect
    source, output = Path(sys.argv[2]), Path(sys.argv[3])
    try:
        report = asyncio.run(inspect(source, filename="a", declared="", output=output))
        print(json.dumps([report.properties, report.text.read_text(), report.thumbnail is not None]))
    except InspectionFailed as failed:
        print(json.dumps([failed.code, failed.sentence, failed.content_type]))
    """
)
EMPTY_CELLS = "<c/>" * 20


@pytest.fixture
def at_limits(tmp_path: Path) -> Callable[..., Any]:
    """Inspect bytes with some limits changed; gives properties, text and whether there is a thumbnail, or why not."""

    def inspect_it(content: bytes, **limits: str) -> Any:
        copy, source, output = tmp_path / "copy", tmp_path / "source", tmp_path / "output"
        for package in ("service", "workers"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(Path(inspect.ROOT) / package, copy / package, ignore=ignored)
        file = copy / "workers/inspection/limits.py"
        text = file.read_text()
        for name, value in limits.items():
            text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", text, flags=re.MULTILINE)
            assert count == 1
        file.write_text(text)
        source.write_bytes(content)
        output.mkdir()
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM, copy, source, output],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            check=True,
            timeout=60,
        )
        assert set(names_in(output)) <= {"text.txt", "thumbnail.webp"}
        return json.loads(ran.stdout)

    return inspect_it


def test_a_file_that_takes_too_much_computing_fails_and_says_so(at_limits):
    rows = "".join(f'<row r="{row}"><c r="A{row}"><v>1</v></c>{EMPTY_CELLS}</row>' for row in range(1, 20_001))
    code, sentence, content_type = at_limits(xlsx(f"<sheetData>{rows}</sheetData>", sheets=100), CPU_SECONDS_MAX="1")

    assert code == "too_complex"
    assert sentence == "Reading this file takes more than 1 seconds of computing."
    assert content_type == "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


def test_a_file_that_takes_too_much_memory_for_its_size_fails_and_says_so(at_limits):
    rows = [
        f'<row r="{row}">' + "".join(f'<c r="{column}{row}"><v>{row}</v></c>' for column in "ABCDEFGHIJ") + "</row>"
        for row in range(1, 100_001)
    ]
    padding = "<!--" + "".join(f"{number:x}" for number in range(600_000)) + "-->"
    code, sentence, _ = at_limits(xlsx(f"<sheetData>{''.join(rows)}</sheetData>{padding}"), MEMORY_BYTES_MAX="80 * MIB")

    assert code == "too_complex"
    assert sentence == "Reading this file takes more than 80 MiB of memory."


def test_a_long_text_that_takes_its_time_is_read_as_far_as_time_allows(at_limits):
    words = b"BT /F1 2 Tf 2 TL 72 790 Td " + b"(Some words that take their time) Tj T* " * 400 + b"ET"
    properties, text, has_thumbnail = at_limits(many_pages(2000, words), CPU_SECONDS_FOR_TEXT="0.5")

    assert 0 < properties["pages_read"] < properties["pages"] == 2000
    assert properties["text_truncated"] is True
    assert text.startswith("Some words")
    assert has_thumbnail


def test_a_page_that_takes_for_ever_to_draw_keeps_its_text(at_limits):
    strokes = HELLO + b" 50 w 1 j 1 J " + b"0 0 m 0 900 600 0 600 700 c S " * 20_000
    outcome = at_limits(one_page(strokes), CPU_SECONDS_MAX="1")

    assert outcome == [{"pages": 1, "text_length": 13}, "Hello World\n\n", False]


def test_of_many_sheets_the_first_are_read_and_it_is_told_how_many(at_limits):
    properties, text, _ = at_limits(xlsx("<sheetData/>", sheets=5), SHEETS_MAX="2")

    assert (properties["sheets"], properties["sheets_read"]) == (5, 2)
    assert properties["text_truncated"] is True
    assert text == "# S1\n\n# S2\n\n"


def test_a_child_runs_the_sources_of_its_parent_wherever_they_are(at_limits):
    properties, _, _ = at_limits(many_pages(5, HELLO), PAGES_MAX="3")

    assert properties["pages_read"] == 3
