"""What came out of an inspection."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageStat

from workers.inspection.inspect import Report


def text_of(report: Report) -> str:
    """The extracted text, line ends as they are."""
    assert report.text is not None
    return report.text.read_bytes().decode()


def thumbnail_of(report: Report) -> Image.Image:
    assert report.thumbnail is not None
    return Image.open(io.BytesIO(report.thumbnail.read_bytes()))


def brightness(picture: Image.Image, box: tuple[int, int, int, int]) -> float:
    """From 0 to 255, of the part in the box."""
    return ImageStat.Stat(picture.convert("L").crop(box)).mean[0]


def names_in(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]
