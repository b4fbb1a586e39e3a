"""A Valkey of these tests alone, which may be stopped and whose clients may be cut off."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.embedded.servers import EmbeddedServers


@pytest.fixture(scope="session")
def valkey() -> Iterator[EmbeddedServers]:
    """Of these tests alone; after a stop it comes back empty."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-tests-"))
    try:
        with EmbeddedServers(folder, postgres=False, say=lambda _: None) as servers:
            yield servers
    finally:
        shutil.rmtree(folder, ignore_errors=True)
