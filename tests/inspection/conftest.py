"""Files of strangers, put before a real child."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from reports import names_in

from workers.inspection.inspect import InspectionFailed, Report, inspect

SAMPLES = Path(__file__).parent / "samples"

Look = Callable[..., Awaitable[Report]]


@pytest.fixture
def sample() -> Callable[[str], bytes]:
    """A real file: made by python-docx from Word's own template, XlsxWriter, python-pptx, odfpy, xlwt, qpdf, …"""
    return lambda name: (SAMPLES / name).read_bytes()


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Have bytes, or a file that is there, inspected, each in a folder of its own."""

    async def inspect_it(content: bytes | Path, filename: str = "unnamed", declared: str = "", **more: Any) -> Report:
        source = content if isinstance(content, Path) else tmp_path / "source"
        if isinstance(content, bytes):
            source.write_bytes(content)
        output = Path(tempfile.mkdtemp(dir=tmp_path))
        more.setdefault("may_be_weak", sys.platform != "linux")
        try:
            return await inspect(source, filename=filename, declared=declared, output=output, **more)
        except InspectionFailed:
            assert names_in(output) == []  # whatever happened, nothing is left
            raise

    return inspect_it
