"""Landlock: from here on, this process opens for reading what it is told, and nothing for writing (Linux 5.13)."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same on every architecture
CREATE_RULESET_VERSION = 1
RULE_PATH_BENEATH = 1

# Rights, from linux/landlock.h, and how many of them a version of the interface knows.
READ_FILE = 1 << 2
READ_DIR = 1 << 3
FILE_RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
TCP_RIGHTS = 0b11
TCP_SINCE = 4
SCOPES = 0b11  # no abstract Unix socket and no signal across the fence
SCOPES_SINCE = 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def restrict_reading_to(libc: ctypes.CDLL, paths: Iterable[Path]) -> bool:
    """Allow reading beneath these paths (those that exist) and forbid all other opening; false where that is unknown.

    "No new privileges" must be set. What is open stays open.
    """
    version = libc.syscall(CREATE_RULESET, None, 0, CREATE_RULESET_VERSION)
    if version < 1:
        return False
    ruleset = _Ruleset(
        files=(1 << FILE_RIGHTS_BY_VERSION.get(version, max(FILE_RIGHTS_BY_VERSION.values()))) - 1,
        tcp=TCP_RIGHTS if version >= TCP_SINCE else 0,
        scopes=SCOPES if version >= SCOPES_SINCE else 0,
    )
    fence = libc.syscall(CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0)
    if fence < 0:
        return False
    try:
        return all(_allow(libc, fence, path) for path in paths) and libc.syscall(RESTRICT_SELF, fence, 0) == 0
    finally:
        os.close(fence)


def _allow(libc: ctypes.CDLL, fence: int, path: Path) -> bool:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True  # what is not there need not be allowed
    try:
        rule = _PathBeneath(allowed=READ_FILE | READ_DIR if path.is_dir() else READ_FILE, folder=opened)
        return bool(libc.syscall(ADD_RULE, fence, RULE_PATH_BENEATH, ctypes.byref(rule), 0) == 0)
    finally:
        os.close(opened)
