"""Whatever a run leaves behind is taken away, also when nobody is left to do it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from history import digest_of

SWEEPING = Path(__file__).with_name("sweeping.py")
DEADLINE_SECONDS = 60.0


def test_a_folder_and_what_lives_in_it_go_with_the_harness(tmp_path: Path):
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    (home / "deep").mkdir(parents=True)
    elsewhere.mkdir()
    (home / "moved-to").write_text(f"{elsewhere}\n")
    sleeping = [sys.executable, "-c", "import time; time.sleep(600)"]
    living = [subprocess.Popen(sleeping, cwd=place) for place in (home / "deep", elsewhere)]
    other = subprocess.Popen(sleeping, cwd=tmp_path)
    sweeper = subprocess.Popen([sys.executable, "-I", "-S", SWEEPING, home], stdin=subprocess.PIPE)
    sweeper.communicate(timeout=DEADLINE_SECONDS)  # as if the harness had ended

    try:
        assert [one.wait(DEADLINE_SECONDS) for one in living] == [-9, -9]
        assert not home.exists()
        assert not elsewhere.exists()
        assert other.poll() is None
    finally:
        for one in (*living, other):
            one.kill()
            one.wait()


def test_different_contents_have_different_digests():
    assert digest_of("one") != digest_of("two")
    assert digest_of("one") == digest_of(b"one")
