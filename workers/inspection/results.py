"""The files that a child leaves: looked at as what a stranger has written, before anything else touches them."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from workers.inspection.limits import THUMBNAIL_BYTES_MAX


def is_text(path: Path, bytes_max: int) -> bool:
    """Whether it is UTF-8 without NUL, not empty and not longer than that."""
    content = _content(path, bytes_max)
    try:
        return content is not None and b"\0" not in content and bool(content.decode())
    except UnicodeDecodeError:
        return False


def is_webp(path: Path) -> bool:
    """Whether it begins as a picture in WebP does, and is no larger than a thumbnail may be."""
    content = _content(path, THUMBNAIL_BYTES_MAX)
    return content is not None and content[:4] == b"RIFF" and content[8:12] == b"WEBP"


def _content(path: Path, bytes_max: int) -> bytes | None:
    """What is in a result, if it is a plain file that stands nowhere else: a link could make us give away another."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > bytes_max:
            return None
        return file.read()


def remove(*paths: Path) -> None:
    """Remove what is there."""
    for path in paths:
        with suppress(OSError):
            path.unlink()
