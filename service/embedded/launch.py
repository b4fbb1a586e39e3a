"""Starts one program that ends with its parent: run as a script, it replaces itself by that program.

It stands alone on purpose: a separate process may change its identity and ask for the parent's death to be told,
which a function between fork and exec may not do safely in a program with threads.
"""

import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence

AS_SELF = "self"
AS_USER_NAMESPACE = "userns"
AS_USER_PREFIX = "setuid:"

EXIT_NOT_FOUND = 96
EXIT_NO_NAMESPACE = 97
EXIT_PARENT_GONE = 98

CLONE_NEWUSER = 0x10000000  # from linux/sched.h
PR_SET_PDEATHSIG = 1  # from linux/prctl.h
NOBODY_UID = 65534  # what every Linux calls "nobody"; asked for only where the user database does not know it


def command(program: Sequence[str], *, identity: str = AS_SELF, death_signal: signal.Signals) -> list[str]:
    """Give the command line that runs `program` (absolute path first) so that it ends with the calling process.

    On Linux the program gets `death_signal` when the thread that started it ends: start it from the main thread.
    """
    # Isolated and without site-packages: quick to start, and nothing of the environment can change what it does.
    python = [sys.executable, "-I", "-S", __file__]
    return [*python, identity, str(int(death_signal)), str(os.getpid()), *program]


def main(arguments: Sequence[str]) -> None:
    """Become the program that the arguments name; exits with 96, 97 or 98 when that cannot be."""
    identity, death_signal, parent, *program = arguments
    libc = ctypes.CDLL(None, use_errno=True)
    if identity == AS_USER_NAMESPACE:
        _enter_user_namespace(libc)
    elif identity.startswith(AS_USER_PREFIX):
        _become(int(identity.removeprefix(AS_USER_PREFIX)))
    if sys.platform == "linux":
        # After the change of identity: that clears the setting.
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit(EXIT_PARENT_GONE)
    try:
        os.execv(program[0], program)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.stderr.write(f"Cannot run {program[0]}: {error.strerror}.\n")
        sys.exit(EXIT_NOT_FOUND)


def _enter_user_namespace(libc: ctypes.CDLL) -> None:
    """Look like the user "nobody" from inside, because PostgreSQL refuses root; files stay owned by who we are."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        nobody = pwd.getpwnam("nobody")
        inner_uid, inner_gid = nobody.pw_uid, nobody.pw_gid
    except KeyError:
        inner_uid = inner_gid = NOBODY_UID
    if libc.unshare(CLONE_NEWUSER):
        sys.exit(EXIT_NO_NAMESPACE)
    try:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{inner_uid} {uid} 1")
        _write("/proc/self/gid_map", f"{inner_gid} {gid} 1")
    except OSError:
        sys.exit(EXIT_NO_NAMESPACE)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:  # noqa: PTH123 - starts faster without pathlib
        file.write(text)


def _become(uid: int) -> None:
    try:
        gid = pwd.getpwuid(uid).pw_gid
    except KeyError:
        gid = uid
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


if __name__ == "__main__":
    main(sys.argv[1:])
