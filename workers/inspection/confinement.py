"""Locks the running process in, for good, before it looks at a stranger's file.

What holds, and where:

- *rlimits* (every Unix): address space, CPU, size of files, number of open files, no core file. macOS does not enforce
  the address space; there the CPU and the wall clock are what ends a bomb. `RLIMIT_NPROC` binds everybody but root.
- *no new privileges, no capabilities, death with the parent* (Linux): root keeps its uid, and nothing else of root.
- *Landlock* (Linux 5.13): no file can be opened but Python's own, the system's libraries and the file in question;
  none can be written, made or removed but the results, which are open already.
- *seccomp* (Linux on x86-64 and ARM64): no process or thread, no program, no network, no signal to others, no lifting
  of limits, and no call that is not on its list. What breaks a parser can still compute, and read what is mapped.

All of them are demanded: each stops something that no other does, and every one is there on the Linux that servers
run. Where one is missing, the child refuses the file before it has loaded a parser, unless the operator has allowed
that (`HOLDFAST_INSPECTION_ALLOW_WEAK`); the rest holds then. What no layer gives is a kernel of its own: a fault in the
kernel is one for the child, too.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from workers.inspection import landlock, seccomp
from workers.inspection.limits import CPU_SECONDS_MAX, MEMORY_BYTES_MAX, OPEN_FILES_MAX
from workers.inspection.messages import Layer

PR_SET_PDEATHSIG = 1  # from linux/prctl.h
PR_SET_NO_NEW_PRIVS = 38
CAPABILITY_VERSION_3 = 0x20080522  # from linux/capability.h

PARSERS = ("PIL", "charset_normalizer", "puremagic", "pypdfium2", "pypdfium2_raw", "python_calamine")
SYSTEM_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/nix/store")


class ParentGone(Exception):
    """Who asked is not there any more."""


def confine(source: Path, *, file_bytes_max: int, parent: int) -> list[Layer]:
    """Lock this process in, with `source` as the one file that it may read; gives the layers that hold.

    Raises ParentGone when nobody waits for it.
    """
    layers = []
    if _limit(file_bytes_max):
        layers.append(Layer.LIMITS)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if _drop_privileges(libc):
            layers.append(Layer.PRIVILEGES)
        if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0:
            layers.append(Layer.PARENT)
        if landlock.restrict_reading_to(libc, [source, *_where_code_is()]):
            layers.append(Layer.LANDLOCK)
        if seccomp.allow_only_reading(libc):
            layers.append(Layer.SECCOMP)
    if os.getppid() != parent:  # it died before its death could be told
        raise ParentGone
    return layers


def _limit(file_bytes_max: int) -> bool:
    """Set the resource limits; false when one of them does not exist here."""
    limits = {
        "RLIMIT_AS": (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX),
        "RLIMIT_CPU": (CPU_SECONDS_MAX, CPU_SECONDS_MAX + 1),  # first SIGXCPU, which tells why, then SIGKILL
        "RLIMIT_FSIZE": (file_bytes_max, file_bytes_max),
        "RLIMIT_NOFILE": (OPEN_FILES_MAX, OPEN_FILES_MAX),
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_NPROC": (0, 0),
    }
    missing = False
    for name, (soft, hard) in limits.items():
        try:
            number = getattr(resource, name)
            allowed = resource.getrlimit(number)[1]
            ceiling = hard if allowed == resource.RLIM_INFINITY else min(hard, allowed)
            resource.setrlimit(number, (min(soft, ceiling), ceiling))
        except (AttributeError, ValueError, OSError):  # macOS knows the name and refuses the value
            missing = True
    return not missing


def _drop_privileges(libc: ctypes.CDLL) -> bool:
    """Give up what root may do, and the way to get it back by running a program."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    return bool(
        libc.capset(ctypes.byref(header), ctypes.byref(nothing)) == 0
        and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    )


def _where_code_is() -> Iterable[Path]:
    """Python, its packages and ours, and the libraries that they load: not the folder that ours are in."""
    yield Path(__file__).parent
    yield from {Path(prefix) for prefix in (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)}
    yield from (Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages")))
    for package in PARSERS:  # some installers fill site-packages with links to their store
        found = find_spec(package)
        if found and found.origin:
            yield Path(found.origin).resolve().parents[1]
    yield from map(Path, SYSTEM_LIBRARIES)
