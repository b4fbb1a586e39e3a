#!/usr/bin/env python3
"""Makes the environment in .venv and runs a command in it: `python3 run.py` lists them. Standard library only."""
# ruff: noqa: S603 - it starts nothing but Python, pip and uv with arguments of its own

import ast
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

OLDEST_PYTHON = (3, 11)
if sys.version_info < OLDEST_PYTHON:
    sys.exit(
        "Holdfast needs Python 3.11 or newer, and this is %d.%d: name a newer one, for example "  # noqa: UP031 - old Pythons read this
        "`make up PYTHON=python3.12`, or `python3.12 run.py up`." % sys.version_info[:2]
    )

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
# Outside any activated environment: that one may lack pip, or be the very one that is made here.
SYSTEM_PYTHON = getattr(sys, "_base_executable", None) or sys.executable

LOCK = "requirements.lock"  # what runs
DEV_LOCK = "requirements-dev.lock"  # the same, with what tests and checks
COMPILE = ("pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header", "-q")
EXTRAS = tuple(word for extra in ("embedded", "test", "dev") for word in ("--extra", extra))
LOCK_COMMANDS = (
    (*COMPILE, "-o", LOCK, "pyproject.toml", "--extra", "embedded"),
    (*COMPILE, "-c", LOCK, "-o", DEV_LOCK, "pyproject.toml", *EXTRAS),
)
LINT = (("-m", "ruff", "check", "."), ("-m", "ruff", "format", "--check", "."))
TYPES = (("-m", "mypy", "service", "workers"),)
TESTS = (("run.py", "test"),)
LOCK_CHECK = (("run.py", "lock-check"),)
# What a change must pass, but for the minute of chaos of .ci/run, in this order: a name, and what Python is given.
CHECKS = (("tests", TESTS), ("lint", LINT), ("types", TYPES), ("lock", LOCK_CHECK))
FULL = "--full"
# Twice as many processes as the smallest machine has cores: end-to-end tests wait more than they compute.
SIDE_BY_SIDE = ("-n", "4", "--dist", "loadscope", "--no-loadscope-reorder")
MEMORY = Path("/dev/shm")  # noqa: S108 - names in it are random; Linux keeps this folder in memory
# A run takes 1.6 GB at its peak (measured) for some 40 data folders, which a busy disk makes several times slower.
MEMORY_BYTES_MIN = 4 * 1024**3
CACHES = (".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis", ".schemathesis")
INTERRUPTED = 130  # what shells use for "ended by Ctrl-C"


class RunError(Exception):
    """The environment cannot be made, or a check failed; the message says what to do."""


def main(arguments: list[str]) -> int:
    """Run the named command; gives its exit code."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("help", [])
    if name not in COMMANDS:
        sys.stderr.write(f"There is no command {name!r}.\n")
        return help_(rest) or 2
    try:
        return COMMANDS[name](rest)
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        return INTERRUPTED


def up(rest: list[str]) -> int:
    """Start everything on this machine, until Ctrl-C."""
    make_environment(LOCK)
    # Ctrl-C waits while Python imports; `holdfast up` lets it through when it can end without a traceback.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    return become(VENV / "bin" / "holdfast", ["up", *rest])


def test(rest: list[str]) -> int:
    """Run all tests, or those that pytest's arguments choose; `--full` repeats chance as often as .ci/run does."""
    make_environment(DEV_LOCK)
    if FULL in rest:
        os.environ["TEST_ROUNDS"] = "1"
        rest = [argument for argument in rest if argument != FULL]
    if sys.dont_write_bytecode:  # the tests start Python some 400 times: compiling anew takes two seconds each time
        os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(VENV / "bytecode")}
    if "TMPDIR" not in os.environ and has_room_in_memory():
        os.environ["TMPDIR"] = str(MEMORY)
    return become(PYTHON, ["-m", "pytest", *SIDE_BY_SIDE, *rest])


def has_room_in_memory() -> bool:
    """Whether temporary files of tests may lie in memory: there is room for them, and programs in it may run."""
    try:
        found = os.statvfs(MEMORY)
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return False
    available = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), 0)
    room = min(found.f_bavail * found.f_frsize, available)
    return room >= MEMORY_BYTES_MIN and not found.f_flag & os.ST_NOEXEC and os.access(MEMORY, os.W_OK | os.X_OK)


def bench(rest: list[str]) -> int:
    """Measure beside bare endpoints; options are the benchmark's own: `run.py bench --only append`."""
    make_environment(DEV_LOCK)
    return become(PYTHON, ["-m", "bench", *rest])


def chaos(rest: list[str]) -> int:
    """Kill every part under load and prove what holds; options are its own: `run.py chaos --seed 7`."""
    make_environment(DEV_LOCK)
    return become(PYTHON, ["tests/chaos", *rest])


def planted(rest: list[str]) -> int:
    """Plant known bugs one by one and tell whether tests catch them; `run.py planted --list` names them."""
    make_environment(DEV_LOCK)
    return become(PYTHON, ["tests/planted/plant.py", *rest])


def lint(_rest: list[str]) -> int:
    """Check style and layout."""
    make_environment(DEV_LOCK)
    return run_all(LINT)


def types(_rest: list[str]) -> int:
    """Check types."""
    make_environment(DEV_LOCK)
    return run_all(TYPES)


def check(_rest: list[str]) -> int:
    """Run tests, style, types and locks: what a change must pass, but for .ci/run's minute of chaos."""
    make_environment(DEV_LOCK)
    failed = []
    for name, commands in CHECKS:
        began = time.monotonic()
        if run_all(commands):
            failed.append(name)
        say(f"{name}: {'failed' if name in failed else 'passed'} ({time.monotonic() - began:.1f} s)")
    if failed:
        raise RunError(f"Failed: {', '.join(failed)}. Mend what is shown above.")
    return 0


def limits(_rest: list[str]) -> int:
    """Write docs/limits.md anew, from the numbers in the code."""
    make_environment(DEV_LOCK)
    return run_all((("docs/write_limits.py",),))


def audit(_rest: list[str]) -> int:
    """List known advisories of the locked versions; it asks PyPI's advisory service."""
    make_environment(DEV_LOCK)
    # Asked about the locks as they stand: nothing is resolved or installed.
    command = [PYTHON, "-m", "pip_audit", "-r", DEV_LOCK, "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    told = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False).stdout
    try:
        packages = json.loads(told)["dependencies"]
    except ValueError:
        raise RunError("The advisory service could not be asked: read pip-audit's message above.") from None
    say(verdict_on(packages))
    return 0


def verdict_on(packages: list[dict]) -> str:
    """What an audit found; raises RunError when there are advisories, or packages of which nothing could be learnt."""
    unknown = [package for package in packages if "vulns" not in package]
    found = [
        f"{package['name']} {package['version']}: {advisory['id']}, "
        f"mended in {', '.join(advisory['fix_versions']) or 'no version yet'}"
        for package in packages
        for advisory in package.get("vulns", ())
    ]
    if found:
        raise RunError("\n".join([*found, f"{len(found)} known advisories: raise these versions, then `make lock`."]))
    if unknown or not packages:
        raise RunError(
            f"Nothing could be learnt of {len(unknown)} of {len(packages)} packages: the advisory service "
            "cannot be reached from here. Run this where it can be."
        )
    return f"No known advisories of {len(packages)} packages"


def lock(_rest: list[str]) -> int:
    """Write the locks of the requirements anew, keeping the versions that still fit."""
    make_environment(DEV_LOCK)
    compile_locks(ROOT)
    return 0


def lock_check(_rest: list[str]) -> int:
    """Check that the locks fit pyproject.toml."""
    make_environment(DEV_LOCK)
    with tempfile.TemporaryDirectory() as name:
        for file in (LOCK, DEV_LOCK, "pyproject.toml"):
            shutil.copy(ROOT / file, name)
        compile_locks(Path(name))
        changed = [file for file in (LOCK, DEV_LOCK) if (ROOT / file).read_bytes() != (Path(name) / file).read_bytes()]
    if changed:
        raise RunError(f"{' and '.join(changed)} do not fit pyproject.toml: run `make lock` and commit the result.")
    return 0


def clean(_rest: list[str]) -> int:
    """Remove .venv and caches; what is stored in .holdfast stays."""
    for folder in (VENV, *(ROOT / name for name in CACHES)):
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def help_(_rest: list[str]) -> int:
    """Show this list."""
    for name, command in COMMANDS.items():
        sys.stdout.write(f"  python3 run.py {name:<12}{command.__doc__}\n")
    return 0


NAMED = (help_, up, test, bench, chaos, planted, lint, types, check, limits, audit, lock, lock_check, clean)
COMMANDS = {command.__name__.strip("_").replace("_", "-"): command for command in NAMED}


def become(program: Path, arguments: list[str]) -> int:
    """Replace this process, so that signals and the exit code are the program's own."""
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execv(program, [str(program), *arguments])  # noqa: S606 - no shell is wanted


def run_all(commands: tuple[tuple[str, ...], ...]) -> int:
    """Run each with the environment's Python; gives 1 if any failed."""
    codes = [subprocess.run([PYTHON, *command], cwd=ROOT, check=False).returncode for command in commands]
    return 1 if any(codes) else 0


def compile_locks(folder: Path) -> None:
    """Resolve pyproject.toml of a folder into the locks beside it."""
    for command in LOCK_COMMANDS:
        if subprocess.run([UV, *command], cwd=folder, env=uv_environment(), check=False).returncode:
            raise RunError(
                "The requirements could not be resolved: read uv's message above; it needs the package index."
            )


def make_environment(lock_name: str) -> None:
    """Make .venv fit a lock; does nothing when it fits already."""
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # a second run waits rather than build into the same place
        stamp = VENV / f".fits-{lock_name}"
        wanted = fingerprint(lock_name)
        if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
            return
        step("Make .venv", make_venv)
        step("Install uv", install_uv)
        step(f"Install {lock_name}", lambda: install("--require-hashes", "-r", lock_name))
        step("Install holdfast itself", lambda: install("--no-deps", "-e", "."))
        stamp.write_text(wanted)
    finally:
        os.close(folder)


def fingerprint(lock_name: str) -> str:
    """All that the environment is made from; the place too, as scripts in it name their Python by its path."""
    made_from = hashlib.sha256(str(VENV).encode())
    for file in (lock_name, "pyproject.toml"):
        made_from.update((ROOT / file).read_bytes())
    return made_from.hexdigest()


def make_venv() -> None:
    """Make an empty environment, unless there is one that works here."""
    place = VENV / ".place"
    moved = place.exists() and place.read_text() != str(VENV)
    if PYTHON.exists() and not moved:
        question = f"import sys; sys.exit(sys.version_info < {OLDEST_PYTHON})"
        if subprocess.run([PYTHON, "-c", question], check=False).returncode == 0:
            return
    # Without pip: that takes 20 s, and Debian leaves out what it needs.
    venv.create(VENV, clear=True, symlinks=True, with_pip=False)
    place.write_text(str(VENV))


def install_uv() -> None:
    """Install the locked uv, which installs the rest ten times faster than pip; without it pip does it all."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(locked_entry("uv"))
        file.flush()
        pip("--no-deps", "--require-hashes", "-r", file.name)


def locked_entry(package: str) -> str:
    """One package's lines of the lock: version and hashes."""
    lines = (ROOT / DEV_LOCK).read_text().splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{package}=="))
    end = next((n for n in range(start + 1, len(lines)) if not lines[n].startswith(" ")), len(lines))
    return "".join(lines[start:end])


def install(*what: str) -> None:
    """Install with uv, and if that fails (a mirror that only pip is told of, say) with pip."""
    command = [str(UV), "pip", "install", "-q", "--python", str(PYTHON), *what]
    try:
        done = subprocess.run(command, cwd=ROOT, env=uv_environment(), capture_output=True, text=True, check=False)
    except OSError:
        pip(*what)
        return
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["it does not say why"])[-1].strip()
        say(f"uv failed ({why}); trying pip, which takes longer")
        pip(*what)


def uv_environment() -> dict[str, str]:
    """Tell uv what pip is told about indexes; it does not read that itself."""
    environment = {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", **os.environ}
    told = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "cert": "SSL_CERT_FILE"}
    shown = subprocess.run([*pip_command(), "config", "list"], capture_output=True, text=True, check=False).stdout
    for line in shown.splitlines():
        key, _, value = line.partition("=")
        name = told.get(key.rpartition(".")[2])
        if name and value:
            environment.setdefault(name, ast.literal_eval(value))
    if "UV_INDEX" in environment:
        # As pip does: the best version of all indexes. uv alone would stop at the first one that knows the name.
        environment.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return environment


def pip(*what: str) -> None:
    """Install with pip, without compiling: Python compiles what it imports, when it does."""
    command = [*pip_command(), "install", "-q", "--no-compile", "--disable-pip-version-check", *what]
    if subprocess.run(command, cwd=ROOT, check=False).returncode:
        raise RunError("The requirements could not be installed: read pip's message above; it needs the package index.")


def pip_command() -> list[str]:
    """Find a pip that can install into .venv: the system's, or Python's own bundled one."""
    if subprocess.run([SYSTEM_PYTHON, "-c", "import pip"], capture_output=True, check=False).returncode == 0:
        return [SYSTEM_PYTHON, "-m", "pip", "--python", str(PYTHON)]
    if importlib.util.find_spec("ensurepip") is not None:
        subprocess.run([PYTHON, "-m", "ensurepip"], capture_output=True, check=False)
        return [str(PYTHON), "-m", "pip"]
    raise RunError(
        f"{SYSTEM_PYTHON} has no pip: install it (Debian and Ubuntu: apt install python3-pip), then run this again."
    )


def step(name: str, action: Callable[[], None]) -> None:
    """Do one step and say how long it took."""
    began = time.monotonic()
    action()
    say(f"{name} ({time.monotonic() - began:.1f} s)")


def say(line: str) -> None:
    """Write a line at once, also into a pipe."""
    print(line, flush=True)  # noqa: T201 - this is a command for people


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
