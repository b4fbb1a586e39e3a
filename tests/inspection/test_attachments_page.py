"""What `docs/attachments.md` says is what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.inspection import limits
from workers.inspection.inspect import ROOT
from workers.inspection.messages import Properties
from workers.inspection.refusals import Refusal

PAGE = (Path(ROOT) / "docs" / "attachments.md").read_text()


@pytest.mark.parametrize("name", [*Properties.__annotations__, *Refusal])
def test_every_property_and_every_reason_is_explained(name: str):
    assert f"`{name}`" in PAGE


@pytest.mark.parametrize(
    "limit",
    [
        f"| text | {limits.TEXT_BYTES_MAX // limits.MIB} MiB |",
        f"| pages of a PDF | {limits.PAGES_MAX:,} |",
        f"| sheets of a workbook | {limits.SHEETS_MAX} |",
        f"| slides of a presentation | {limits.SLIDES_MAX:,} |",
        f"| computing spent on the text | {limits.CPU_SECONDS_FOR_TEXT:.0f} s |",
        f"more than {limits.UNPACKED_BYTES_MAX // limits.MIB} MiB that unpack",
        f"more than {limits.PIXELS_MAX // 10**6} million pixels (JPEG: {limits.PIXELS_MAX_JPEG // 10**6})",
        f"more than {limits.CPU_SECONDS_MAX} s of computing, {limits.WALL_SECONDS_MAX:.0f} s in all",
        f"or {limits.MEMORY_BYTES_MAX // limits.MIB} MiB of memory",
    ],
)
def test_every_limit_is_told_as_it_is(limit: str):
    assert limit in PAGE
