"""Where the servers of a running `holdfast up` are, so that other commands in the same folder find them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

FILE_NAME = "endpoints"
DEFAULT_FOLDER = ".holdfast"
NOTED = ("DATABASE_URL", "REDIS_URL")


def note_endpoints(folder: Path, database_url: str, redis_url: str) -> None:
    """Leave the two addresses in the data folder, which only its owner can read."""
    path = folder / FILE_NAME
    path.write_text(f"DATABASE_URL={database_url}\nREDIS_URL={redis_url}\n")
    path.chmod(0o600)


def with_noted_endpoints(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment`, and where it names no server, the one that was noted last in its data folder."""
    completed = dict(environment)
    path = Path(environment.get("HOLDFAST_DATA_DIR") or DEFAULT_FOLDER) / FILE_NAME
    if path.is_file():
        for line in path.read_text().splitlines():
            name, _, value = line.partition("=")
            if name in NOTED and not completed.get(name):
                completed[name] = value
    return completed
