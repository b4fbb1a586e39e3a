"""Office files that a password protects."""

from __future__ import annotations

from typing import NoReturn

from workers.inspection.reading import Reading
from workers.inspection.refusals import ENCRYPTED, Refusal, Unreadable


def parse(_: Reading) -> NoReturn:
    """Say that it cannot be read."""
    raise Unreadable(Refusal.ENCRYPTED, ENCRYPTED)
