"""Connections that wait, for tests in which some hold what others wait for: on however busy a machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.store import engine

PATIENCE_SECONDS = 60
"""It only ends a test that hangs; the product gives up after 3 s to 6 s."""


@contextmanager
def patience() -> Iterator[None]:
    """Every database that is opened within the block waits so long for locks and for answers."""
    limits = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    waits = dict.fromkeys(limits, f"{PATIENCE_SECONDS}s")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "LIMITS_OF_A_CONNECTION", engine.LIMITS_OF_A_CONNECTION | waits)
        patch.setattr(engine, "COMMAND_SECONDS_MAX", float(PATIENCE_SECONDS))
        yield
