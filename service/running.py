"""What `holdfast up` leaves in its data folder for other commands: the addresses of the servers, and the secret."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

FILE_NAME = "endpoints"
DEFAULT_FOLDER = ".holdfast"
NOTED = ("DATABASE_URL", "REDIS_URL")
SECRET_FILE = "secret"  # noqa: S105 - the name of a file
SECRET_BYTES = 32


def note_endpoints(folder: Path, database_url: str, redis_url: str) -> None:
    """Leave the two addresses in the data folder, which only its owner can read."""
    path = folder / FILE_NAME
    path.write_text(f"DATABASE_URL={database_url}\nREDIS_URL={redis_url}\n")
    path.chmod(0o600)


def keep_secret(folder: Path) -> str:
    """The `HOLDFAST_SECRET` of a data folder: the one in it, or a new one, which only its owner can read.

    Written whole and to the disk before it is used: what is sealed with a secret that is gone never opens again.
    """
    path = folder / SECRET_FILE
    if not path.exists():
        fresh = folder / f"{SECRET_FILE}.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_hex(SECRET_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another start was quicker, and seals with its own already
            path.hardlink_to(fresh)
        fresh.unlink()
    return path.read_text().strip()


def with_noted_endpoints(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment`, and where it names no server, the one that was noted last in its data folder, with its secret."""
    completed = dict(environment)
    folder = Path(environment.get("HOLDFAST_DATA_DIR") or DEFAULT_FOLDER)
    path, secret = folder / FILE_NAME, folder / SECRET_FILE
    if not completed.get("DATABASE_URL") and not completed.get("HOLDFAST_SECRET") and secret.is_file():
        completed["HOLDFAST_SECRET"] = secret.read_text().strip()
    if path.is_file():
        for line in path.read_text().splitlines():
            name, _, value = line.partition("=")
            if name in NOTED and not completed.get(name):
                completed[name] = value
    return completed
