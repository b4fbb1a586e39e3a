"""Decides as whom the servers run: PostgreSQL refuses root, and a container's user may have no name."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path

from service.embedded import launch

PROBE_SECONDS = 10.0  # it takes 30 ms
ROOT_UID = 0


def choose(stores: Iterable[Path]) -> str:
    """Choose the identity for servers whose data is (or will be) in `stores`: one of launch.py's AS_… forms."""
    uid = os.geteuid()
    if uid != ROOT_UID:
        # Only a user without a name needs more: initdb asks for the name.
        return launch.AS_USER_NAMESPACE if not _has_name(uid) and user_namespaces_allowed() else launch.AS_SELF
    for store in stores:
        if store.exists():
            owner = store.stat().st_uid
            return launch.AS_USER_NAMESPACE if owner == ROOT_UID else f"{launch.AS_USER_PREFIX}{owner}"
    if user_namespaces_allowed():
        return launch.AS_USER_NAMESPACE
    return f"{launch.AS_USER_PREFIX}{_nobody()}"


def user_namespaces_allowed() -> bool:
    """Try whether a process may have a user namespace of its own: too many things forbid it to know otherwise."""
    program = shutil.which("true") or "/bin/true"
    probe = launch.command([program], identity=launch.AS_USER_NAMESPACE, death_signal=signal.SIGKILL)
    try:
        answer = subprocess.run(probe, capture_output=True, timeout=PROBE_SECONDS, check=False)  # noqa: S603 - `true`
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0


def other_uid(identity: str) -> int | None:
    """Name the user whom the servers become, or None when files stay ours."""
    prefix = launch.AS_USER_PREFIX
    return int(identity.removeprefix(prefix)) if identity.startswith(prefix) else None


def give(path: Path, identity: str) -> None:
    """Make the servers' user the owner of a file or folder that we made for them."""
    uid = other_uid(identity)
    if uid is not None:
        os.chown(path, uid, group_of(uid))


def owners(identity: str) -> set[int]:
    """Name the users to whom files of ours may belong."""
    uid = other_uid(identity)
    return {os.geteuid()} if uid is None else {os.geteuid(), uid}


def group_of(uid: int) -> int:
    """Find the main group of a user, or the same number for a user without an entry."""
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return uid


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _nobody() -> int:
    try:
        return pwd.getpwnam("nobody").pw_uid
    except KeyError:
        return launch.NOBODY_UID
