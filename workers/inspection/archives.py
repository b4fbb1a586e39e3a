"""Archives and packages that are kept as they are: how much is in them, and whether they are bombs."""

from __future__ import annotations

from workers.inspection.reading import Reading
from workers.inspection.zip_files import open_package


def parse(reading: Reading) -> None:
    """Count the members. They are not unpacked: neither their names nor their contents can do anything."""
    with open_package(reading.source) as package:
        reading.properties["entries"] = len(package.infolist())
