"""seccomp: from here on, only what a reader of files computes with goes through to the kernel (x86-64 and ARM64).

It is a list of what is allowed, so a call that a newer kernel brings is refused before anybody here has heard of it.
What is on it: memory, files that are open or that Landlock lets be opened, clocks, random bytes, signals to oneself,
the end. Inspections of all kinds of files were seen to make 23 of these calls (glibc 2.36, Python 3.11); the others are
what other versions of libc make in their place, and tell or change nothing outside this process.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

PR_SET_SECCOMP = 22  # from linux/prctl.h
MODE_FILTER = 2

# Instructions and answers of the filter, from linux/bpf_common.h and linux/seccomp.h.
LOAD_WORD = 0x20
JUMP_IF_EQUAL = 0x15
JUMP_IF_AT_LEAST = 0x35
ANSWER = 0x06
ALLOW = 0x7FFF0000
REFUSE = 0x00050000 | errno.EPERM
UNKNOWN = 0x00050000 | errno.ENOSYS
KILL = 0x80000000

NUMBER_OFFSET, ARCHITECTURE_OFFSET, ARGUMENTS_OFFSET = 0, 4, 16
ARGUMENT_BYTES = 8  # both architectures store the lower half first

FIRST_UNKNOWN_CALL = 463
"""Calls from here on (Linux 6.13) are younger than this list, the same on every architecture; x86-64 has all calls a
second time from 0x40000000 on. Each is answered as by a kernel that does not have it: libc then does without."""


class Call(NamedTuple):
    """The numbers of a call, from asm/unistd_64.h and asm-generic/unistd.h; None: it is not there."""

    x86_64: int | None
    arm64: int | None


ALLOWED = {
    # memory
    "mmap": Call(9, 222),
    "mprotect": Call(10, 226),
    "munmap": Call(11, 215),
    "brk": Call(12, 214),
    "mremap": Call(25, 216),
    "mincore": Call(27, 232),
    "madvise": Call(28, 233),
    # files: which can be opened, and that none can be for writing, is Landlock's part
    "open": Call(2, None),
    "openat": Call(257, 56),
    "openat2": Call(437, 437),
    "close": Call(3, 57),
    "close_range": Call(436, 436),
    "read": Call(0, 63),
    "readv": Call(19, 65),
    "pread64": Call(17, 67),
    "write": Call(1, 64),
    "writev": Call(20, 66),
    "pwrite64": Call(18, 68),
    "lseek": Call(8, 62),
    "dup": Call(32, 23),
    "dup2": Call(33, None),
    "dup3": Call(292, 24),
    "stat": Call(4, None),
    "fstat": Call(5, 80),
    "lstat": Call(6, None),
    "newfstatat": Call(262, 79),
    "statx": Call(332, 291),
    "access": Call(21, None),
    "faccessat": Call(269, 48),
    "faccessat2": Call(439, 439),
    "readlink": Call(89, None),
    "readlinkat": Call(267, 78),
    "getdents": Call(78, None),
    "getdents64": Call(217, 61),
    "getcwd": Call(79, 17),
    # waiting; Python makes an epoll when it imports `select`, to see whether there is one
    "poll": Call(7, None),
    "ppoll": Call(271, 73),
    "select": Call(23, None),
    "pselect6": Call(270, 72),
    "epoll_create1": Call(291, 20),
    "futex": Call(202, 98),
    "nanosleep": Call(35, 101),
    "clock_nanosleep": Call(230, 115),
    "sched_yield": Call(24, 124),
    "restart_syscall": Call(219, 128),
    # signals, as this process handles them
    "rt_sigaction": Call(13, 134),
    "rt_sigprocmask": Call(14, 135),
    "rt_sigreturn": Call(15, 139),
    "sigaltstack": Call(131, 132),
    # what time it is, who one is, and what the machine is like
    "time": Call(201, None),
    "gettimeofday": Call(96, 169),
    "clock_gettime": Call(228, 113),
    "clock_getres": Call(229, 114),
    "times": Call(100, 153),
    "getrusage": Call(98, 165),
    "getrlimit": Call(97, 163),
    "getrandom": Call(318, 278),
    "getpid": Call(39, 172),
    "getppid": Call(110, 173),
    "gettid": Call(186, 178),
    "getuid": Call(102, 174),
    "geteuid": Call(107, 175),
    "getgid": Call(104, 176),
    "getegid": Call(108, 177),
    "getcpu": Call(309, 168),
    "sched_getaffinity": Call(204, 123),
    "sysinfo": Call(99, 179),
    "uname": Call(63, 160),
    # what libc does for a thread, and the end
    "set_robust_list": Call(273, 99),
    "rseq": Call(334, 293),
    "exit": Call(60, 93),
    "exit_group": Call(231, 94),
}

IOCTL, FCNTL, TGKILL = Call(16, 29), Call(72, 25), Call(234, 131)
IOCTLS = (0x5401, 0x5413, 0x541B, 0x5450, 0x5451)  # TCGETS TIOCGWINSZ FIONREAD FIONCLEX FIOCLEX
FCNTLS = (0, 1, 2, 3, 1030)  # F_DUPFD F_GETFD F_SETFD F_GETFL F_DUPFD_CLOEXEC


class Restricted(NamedTuple):
    """A call that is allowed if one of its arguments is among these."""

    call: Call
    argument: int
    values: tuple[int, ...]


def _restricted() -> tuple[Restricted, ...]:
    """Others of these calls change a file's flags, or have the kernel send signals to whom one names."""
    return (
        Restricted(IOCTL, 1, IOCTLS),
        Restricted(FCNTL, 1, FCNTLS),
        Restricted(TGKILL, 0, (os.getpid(),)),  # abort() sends itself a signal, and needs it to
    )


class Architecture(NamedTuple):
    """What the kernel calls it, and which of a call's numbers are its own."""

    identity: int
    column: int

    def number_of(self, call: Call) -> int | None:
        """The number of the call; None: it is not there."""
        return call[self.column]


X86_64 = Architecture(0xC000003E, Call._fields.index("x86_64"))
ARM64 = Architecture(0xC00000B7, Call._fields.index("arm64"))
ARCHITECTURES = {"x86_64": X86_64, "aarch64": ARM64}


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def allow_only_reading(libc: ctypes.CDLL) -> bool:
    """Refuse all other calls from now on; false where there is no filter. "No new privileges" must be set."""
    architecture = ARCHITECTURES.get(os.uname().machine)
    if architecture is None:
        return False
    return install(libc, list(_filter(architecture)))


def install(libc: ctypes.CDLL, instructions: list[_Instruction]) -> bool:
    """Have every call of this process, from now on, pass through a filter; false where there is none."""
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    return bool(libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filter(architecture: Architecture) -> Iterator[_Instruction]:
    yield _Instruction(LOAD_WORD, 0, 0, ARCHITECTURE_OFFSET)
    yield _Instruction(JUMP_IF_EQUAL, 1, 0, architecture.identity)
    yield _Instruction(ANSWER, 0, 0, KILL)  # a call in the manner of another architecture, whose numbers differ
    yield _Instruction(LOAD_WORD, 0, 0, NUMBER_OFFSET)
    yield _Instruction(JUMP_IF_AT_LEAST, 0, 1, FIRST_UNKNOWN_CALL)
    yield _Instruction(ANSWER, 0, 0, UNKNOWN)
    for call in ALLOWED.values():
        number = architecture.number_of(call)
        if number is not None:
            yield _Instruction(JUMP_IF_EQUAL, 0, 1, number)
            yield _Instruction(ANSWER, 0, 0, ALLOW)
    for restricted in _restricted():
        yield from _arguments_checked(architecture, restricted)
    yield _Instruction(ANSWER, 0, 0, REFUSE)


def _arguments_checked(architecture: Architecture, restricted: Restricted) -> Iterator[_Instruction]:
    """Answer this call by its argument; the kernel reads 32 bits of it, and so does this."""
    number = architecture.number_of(restricted.call)
    if number is None:
        return
    yield _Instruction(JUMP_IF_EQUAL, 0, 2 * len(restricted.values) + 2, number)
    yield _Instruction(LOAD_WORD, 0, 0, ARGUMENTS_OFFSET + ARGUMENT_BYTES * restricted.argument)
    for value in restricted.values:
        yield _Instruction(JUMP_IF_EQUAL, 0, 1, value)
        yield _Instruction(ANSWER, 0, 0, ALLOW)
    yield _Instruction(ANSWER, 0, 0, REFUSE)
