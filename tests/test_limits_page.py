"""`docs/limits.md` is what `make limits` writes from the code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from service.settings import VARIABLES

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "limits.md").read_text()
WRITES = "import sys; sys.path.insert(0, 'docs'); import write_limits; print(write_limits.page(), end='')"


def test_the_page_of_limits_is_the_one_that_the_code_gives():
    written = subprocess.run([sys.executable, "-c", WRITES], cwd=ROOT, capture_output=True, text=True, check=True)

    assert written.stdout == PAGE, "run `make limits`"


def test_every_setting_that_shares_something_out_is_on_the_page():
    shared = [name for name in VARIABLES.values() if name.startswith(("HOLDFAST_TENANT_", "HOLDFAST_ADDRESS_"))]

    assert shared
    assert [name for name in shared if f"`{name}`" not in PAGE] == []
