"""The harness is run as a script, which finds its modules itself; tests of it find those beside them here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "e2e"))
