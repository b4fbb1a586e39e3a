"""Where everything of one data folder lies, including the cases where the servers' user cannot reach it."""

import hashlib
import os
import re
import secrets
import shutil
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from service.embedded import identity as identities
from service.embedded.binaries import PostgresPrograms, ValkeyProgram
from service.embedded.errors import EmbeddedError
from service.embedded.folder import make_private, refuse_other_major

SOCKET_PATH_MAX_CHARS = 100  # the kernel allows 107 (Linux) and 103 (macOS) bytes
LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._-]+")  # needs no quoting in any URL or option
TRAVERSABLE = 0o711
SHARED = 0o755
MOVED_NOTE = "moved-to"


@dataclass(frozen=True)
class Layout:
    """The places of one run; `store` holds the engines' own folders and is `folder` unless it had to move."""

    folder: Path
    store: Path
    sockets: Path
    logs: Path
    identity: str
    postgres: PostgresPrograms | None
    valkey: ValkeyProgram | None

    @property
    def cluster(self) -> Path:
        """PostgreSQL's own folder, named after the major version that may read it."""
        return self.store / f"pg{self.postgres.major if self.postgres else 0}"

    @property
    def queue(self) -> Path:
        """Valkey's own folder, named likewise."""
        return self.store / (f"{self.valkey.engine}{self.valkey.major}" if self.valkey else "valkey0")


def lay_out(folder: Path, postgres: PostgresPrograms | None, valkey: ValkeyProgram | None) -> Layout:
    """Decide on the places and make their folders; raises EmbeddedError when they cannot be used."""
    note = folder / MOVED_NOTE
    store = Path(note.read_text(encoding="utf-8").strip()) if note.exists() else folder
    if not store.is_dir():
        raise EmbeddedError(f"The data was moved to {store}, which is gone: remove {note} to begin with none.")
    layout = Layout(folder, store, store, folder / "logs", "", postgres, valkey)
    if postgres:
        refuse_other_major(store, postgres.major)
    layout = replace(layout, identity=identities.choose([layout.cluster, layout.queue]))
    uid = identities.other_uid(layout.identity)
    if uid is not None:
        layout = _within_reach(layout, uid)
    layout = replace(layout, sockets=_socket_folder(layout.store, uid))
    wanted = [layout.logs, layout.sockets]
    wanted += [layout.cluster] if postgres and layout.cluster.exists() else []
    wanted += [layout.queue] if valkey else []
    for path in wanted:
        make_private(path, identities.owners(layout.identity))
        identities.give(path, layout.identity)
    return layout


def _socket_folder(store: Path, uid: int | None) -> Path:
    """Choose the folder for sockets: in the store if its path is plain and short, else a short one."""
    inside = store / "run"
    if _fits(inside):
        return inside
    digest = hashlib.sha256(os.fsencode(store)).hexdigest()[:12]
    name = f"holdfast-{os.geteuid() if uid is None else uid}-{digest}"
    outside = Path(tempfile.gettempdir()) / name
    return outside if _fits(outside) else Path("/tmp") / name  # noqa: S108 - private, and its owner is checked


def _fits(path: Path) -> bool:
    longest = str(path / LONGEST_SOCKET_NAME)
    return PLAIN_PATH.fullmatch(longest) is not None and len(longest) <= SOCKET_PATH_MAX_CHARS


def _within_reach(layout: Layout, uid: int) -> Layout:
    """Move what the servers' user cannot reach (root's home is closed to others) to a place that it can."""
    if layout.store == layout.folder and layout.folder.stat().st_uid != uid:
        layout.folder.chmod(TRAVERSABLE)
    if not _reachable(layout.store, uid):
        moved = _shared_place() / f"holdfast-{secrets.token_hex(8)}"
        moved.mkdir(mode=SHARED)
        moved.chmod(SHARED)
        (layout.folder / MOVED_NOTE).write_text(f"{moved}\n", encoding="utf-8")
        layout = replace(layout, store=moved)
    if layout.postgres and not _reachable(layout.postgres.folder, uid):
        package = layout.postgres.folder.parent.parent
        libraries = package.with_name(f"{package.name}.libs")
        copy = _shared_copy([package, libraries], layout.postgres.version)
        programs = replace(layout.postgres, folder=copy / package.name / "pginstall" / "bin")
        layout = replace(layout, postgres=programs)
    if layout.valkey and not _reachable(layout.valkey.path, uid):
        copy = _shared_copy([layout.valkey.path], layout.valkey.version)
        layout = replace(layout, valkey=replace(layout.valkey, path=copy / layout.valkey.path.name))
    return layout


def _reachable(path: Path, uid: int) -> bool:
    """Whether the user may pass every folder on the way and read what is there."""
    gid = identities.group_of(uid)
    for step in [path, *path.parents]:
        found = step.stat()
        needed = stat.S_IXOTH
        if found.st_uid == uid:
            needed = stat.S_IXUSR
        elif found.st_gid == gid:
            needed = stat.S_IXGRP
        if not found.st_mode & needed:
            return False
    return True


def _shared_place() -> Path:
    """Name a place that everyone can reach and that outlives a restart of the machine."""
    lasting = Path("/var/tmp")  # noqa: S108 - names in it are random, or their owner is checked
    return lasting if lasting.is_dir() else Path(tempfile.gettempdir())


def _shared_copy(sources: list[Path], version: str) -> Path:
    """Copy programs so that everyone may read and only root may change them, once for each source and version."""
    if sources[0].is_dir() and not (sources[0] / "pginstall").is_dir():
        raise EmbeddedError(
            f"{sources[0]} is closed to other users: install PostgreSQL elsewhere, or run as its owner."
        )
    made_from = f"{sources[0]} {version} {sources[0].stat().st_mtime_ns}"
    target = _shared_place() / f"holdfast-programs-{hashlib.sha256(made_from.encode()).hexdigest()[:16]}"
    if not target.exists():
        fresh = Path(tempfile.mkdtemp(prefix="holdfast-programs-", dir=_shared_place()))
        for source in filter(Path.exists, sources):
            if source.is_dir():
                unneeded = shutil.ignore_patterns("include", "*.a", "pgxs", "*.py", "__pycache__")
                shutil.copytree(source, fresh / source.name, ignore=unneeded)
            else:
                shutil.copy2(source, fresh / source.name)
        for path in [fresh, *fresh.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(SHARED if path.is_dir() or mode & stat.S_IXUSR else 0o644)
        try:
            fresh.rename(target)
        except OSError:  # another start was quicker
            shutil.rmtree(fresh)
    found = target.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EmbeddedError(f"{target} was not made by Holdfast: remove it, then start again.")
    return target
