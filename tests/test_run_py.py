"""run.py: what it makes, when it makes nothing, and what it says when it cannot."""

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """run.py as a module, at work in an empty folder that has the locks."""
    module = load()
    for name in (module.LOCK, module.DEV_LOCK, "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.setattr(module, "UV", tmp_path / ".venv" / "bin" / "uv")
    return module


@pytest.fixture
def done(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What would be installed."""
    installed: list[tuple[str, ...]] = []
    monkeypatch.setattr(runner, "install_uv", lambda: installed.append(("uv",)))
    monkeypatch.setattr(runner, "install", lambda *what: installed.append(what))
    return installed


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_py", ROOT / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_an_unchanged_lock_installs_nothing_again(runner: ModuleType, done: list[tuple[str, ...]]) -> None:
    runner.make_environment(runner.LOCK)
    assert done == [("uv",), ("--require-hashes", "-r", "requirements.lock"), ("--no-deps", "-e", ".")]
    assert not (runner.VENV / "bin" / "pip").exists()
    runner.make_environment(runner.LOCK)
    assert len(done) == 3
    with (runner.ROOT / runner.LOCK).open("a") as lock:
        lock.write("# changed\n")
    runner.make_environment(runner.LOCK)
    assert len(done) == 6
    runner.make_environment(runner.DEV_LOCK)
    assert len(done) == 9


def test_an_environment_that_was_moved_is_made_anew(runner: ModuleType) -> None:
    runner.make_venv()
    (runner.VENV / "left").write_text("")
    runner.make_venv()
    assert (runner.VENV / "left").exists()
    (runner.VENV / ".place").write_text("/elsewhere/.venv")
    runner.make_venv()
    assert not (runner.VENV / "left").exists()


@pytest.mark.parametrize("uv", ["exit 1", None])
def test_without_a_working_uv_pip_installs_the_same(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, uv: str | None
) -> None:
    if uv:
        script(runner.UV, uv)
    given: list[tuple[str, ...]] = []
    monkeypatch.setattr(runner, "pip", lambda *what: given.append(what))
    monkeypatch.setattr(runner, "uv_environment", dict)
    runner.install("--require-hashes", "-r", "requirements.lock")
    assert given == [("--require-hashes", "-r", "requirements.lock")]


def test_uv_is_told_what_pip_is_told(runner: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pip = script(tmp_path / "pip", "echo \"global.index-url='https://mirror.example/simple'\"")
    monkeypatch.setattr(runner, "pip_command", lambda: [str(pip)])
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    assert runner.uv_environment()["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://own.example/simple")
    assert runner.uv_environment()["UV_DEFAULT_INDEX"] == "https://own.example/simple"


def test_uv_itself_is_installed_by_hash(runner: ModuleType) -> None:
    entry = runner.locked_entry("uv")
    assert re.match(r"uv==\d+\.\d+\.\d+ \\\n    --hash=sha256:", entry)
    assert len(re.findall(r"^\S", entry, re.MULTILINE)) == 1


def test_a_python_without_pip_gets_one_sentence(runner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner.importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(runner, "SYSTEM_PYTHON", "/bin/false")
    with pytest.raises(runner.RunError, match="has no pip: install it"):
        runner.pip_command()


def test_an_older_python_gets_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and this is 3\.9"):
        load()


def test_ctrl_c_ends_without_a_traceback(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_rest: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(runner.COMMANDS, "up", interrupted)
    assert runner.main(["up"]) == 130
    assert capsys.readouterr().err == "Stopped.\n"


def test_checks_all_run_and_the_failed_ones_are_named(
    runner: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[tuple[tuple[str, ...], ...]] = []

    def run_all(commands: tuple[tuple[str, ...], ...]) -> int:
        ran.append(commands)
        return int(commands == runner.LINT)

    monkeypatch.setattr(runner, "run_all", run_all)
    monkeypatch.setattr(runner, "make_environment", lambda _lock: None)
    assert runner.main(["check"]) == 1
    assert ran == [commands for _, commands in runner.CHECKS]
    assert capsys.readouterr().err == "Failed: lint. Mend what is shown above.\n"


@pytest.mark.parametrize(("arguments", "code"), [([], 0), (["nonsense"], 2)])
def test_it_lists_its_commands(arguments: list[str], code: int) -> None:
    shown = subprocess.run(
        [sys.executable, "run.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert shown.returncode == code
    assert "python3 run.py up" in shown.stdout


def test_make_offers_each_command(runner: ModuleType) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands: dict[str, Callable[[list[str]], int]] = runner.COMMANDS
    assert targets == set(commands)


@pytest.mark.parametrize(
    ("packages", "said"),
    [
        ([], "Nothing could be learnt of 0 of 0 packages"),
        (
            [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}],
            "Nothing could be learnt of 1 of 2 packages",
        ),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}],
            "a 1: PYSEC-1, mended in 2",
        ),
    ],
)
def test_an_audit_that_found_something_or_could_learn_nothing_fails(packages: list[dict], said: str):
    module = load()

    with pytest.raises(module.RunError, match=said):
        module.verdict_on(packages)
    assert module.verdict_on([{"name": "a", "version": "1", "vulns": []}]) == "No known advisories of 1 packages"


@pytest.mark.parametrize(
    ("memory", "available", "is_used"),
    [("room", 4 * 1024**2, True), ("room", 1024**2, False), ("missing", 4 * 1024**2, False)],
)
def test_temporary_files_lie_in_memory_where_there_is_room(
    runner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: str, available: int, is_used: bool
) -> None:
    (tmp_path / "room").mkdir()
    read_text = Path.read_text
    monkeypatch.setattr(runner, "MEMORY", tmp_path / memory)
    monkeypatch.setattr(runner.os, "statvfs", lambda path: Room(path.stat()))
    monkeypatch.setattr(
        Path, "read_text", lambda path: f"MemAvailable: {available} kB\n" if path.name == "meminfo" else read_text(path)
    )

    assert runner.has_room_in_memory() is is_used


class Room:
    """A file system with 8 GiB."""

    f_bavail, f_frsize, f_flag = 8 * 1024**2, 1024, 0

    def __init__(self, _: object) -> None:
        """Of a folder that is there."""
