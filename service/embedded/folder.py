"""The data folder: private, writable, and used by one run at a time."""

import fcntl
import os
import re
import stat
from pathlib import Path

from service.embedded.errors import EmbeddedError

PRIVATE = 0o700
LOCK_NAME = "lock"
OTHER_FOLDER = "set HOLDFAST_DATA_DIR to a folder that you may write"


def prepare(folder: Path) -> Path:
    """Make the folder if it is missing, private to us, and give its absolute path.

    Raises EmbeddedError when it cannot be made or written.
    """
    folder = folder.expanduser().resolve()
    try:
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(f"Cannot make the data folder {folder} ({error.strerror}): {OTHER_FOLDER}.") from None
    return folder


class FolderLock:
    """The right to run servers in a folder, held until it is released or the process ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock; raises EmbeddedError when another run has it or the folder cannot be written."""
        path = folder / LOCK_NAME
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EmbeddedError(
                f"Cannot write to the data folder {folder} ({error.strerror}): {OTHER_FOLDER}."
            ) from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._file, 20).decode(errors="replace").strip() or "unknown"
            os.close(self._file)
            raise EmbeddedError(
                f"Holdfast already runs in {folder} (process {holder}): "
                "stop it first, or set HOLDFAST_DATA_DIR to another folder for a second one."
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let the next run have the folder."""
        os.close(self._file)


def make_private(path: Path, owners: set[int]) -> None:
    """Make a folder, mode 0700, or make sure that it is one of `owners`'; raises EmbeddedError when it is another's."""
    try:
        path.mkdir(mode=PRIVATE, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
            raise EmbeddedError(f"{path} belongs to another user: run as that user, or {OTHER_FOLDER}.")
        path.chmod(PRIVATE)
    except OSError as error:
        raise EmbeddedError(f"Cannot make the folder {path} ({error.strerror}): {OTHER_FOLDER}.") from None


def refuse_other_major(store: Path, major: int) -> None:
    """Raise EmbeddedError when PostgreSQL of another major version wrote the data: a new one must not look empty."""
    own = store / f"pg{major}"
    for cluster in [own, *sorted(store.glob("pg*"))]:
        written_by = _written_by(cluster) if re.fullmatch(r"pg\d+", cluster.name) else None
        if written_by == str(major):
            return
        if written_by is not None:
            raise EmbeddedError(
                f"{cluster} was written by PostgreSQL {written_by}, which PostgreSQL {major} cannot read: "
                f"set EMBEDDED_PG_BIN to the folder of PostgreSQL {written_by}'s programs, "
                "or set HOLDFAST_DATA_DIR to a new folder."
            )


def _written_by(cluster: Path) -> str | None:
    try:
        return (cluster / "PG_VERSION").read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise EmbeddedError(
            f"Cannot read {cluster} ({error.strerror}): run as the user who made it, or {OTHER_FOLDER}."
        ) from None
