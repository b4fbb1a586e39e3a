"""seccomp: from here on, system calls that reach beyond this process fail with EPERM (Linux on x86-64 and ARM64)."""

from __future__ import annotations

import ctypes
import errno
import os
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
KILL = 0x80000000

NUMBER_OFFSET, ARCHITECTURE_OFFSET, FIRST_ARGUMENT_OFFSET = 0, 4, 16
X32_CALLS_BEGIN = 0x40000000
"""x86-64 has all calls a second time up there; on ARM64 there is nothing."""


class Architecture(NamedTuple):
    """What the kernel calls it, and the numbers of calls that differ from one to the next."""

    identity: int
    thread_signal: int  # tgkill: abort() sends itself a signal, and needs it to
    forbidden: tuple[int, ...]


ALIKE = (
    *(424, 434, 438),  # pidfd_send_signal pidfd_open pidfd_getfd
    *(425, 426, 427),  # io_uring_setup io_uring_enter io_uring_register
    *(428, 429, 430, 431, 432, 433, 442),  # open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr
    *(435, 440, 447, 448, 452),  # clone3 process_madvise memfd_secret process_mrelease fchmodat2
)
"""Calls that are new enough to have the same number everywhere."""

X86_64 = Architecture(
    identity=0xC000003E,
    thread_signal=234,
    forbidden=(
        *(56, 57, 58, 59, 322),  # clone fork vfork execve execveat
        *(41, 42, 43, 49, 50, 53, 288),  # socket connect accept bind listen socketpair accept4
        *(62, 129, 200, 297),  # kill rt_sigqueueinfo tkill rt_tgsigqueueinfo
        *(101, 310, 311),  # ptrace process_vm_readv process_vm_writev
        *(109, 112, 160, 302),  # setpgid setsid setrlimit prlimit64
        *(155, 161, 165, 166, 272, 308),  # pivot_root chroot mount umount2 unshare setns
        *(90, 91, 92, 93, 94, 260, 268),  # chmod fchmod chown fchown lchown fchownat fchmodat
        *(132, 235, 261, 280),  # utime utimes futimesat utimensat
        *(188, 189, 190, 197, 198, 199),  # setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
        *(29, 64, 68, 240, 319),  # shmget semget msgget mq_open memfd_create
        *(248, 249, 250),  # add_key request_key keyctl
        *(298, 304, 321, 323),  # perf_event_open open_by_handle_at bpf userfaultfd
    ),
)
ARM64 = Architecture(
    identity=0xC00000B7,
    thread_signal=131,
    forbidden=(
        *(220, 221, 281),  # clone execve execveat
        *(198, 199, 200, 201, 202, 203, 242),  # socket socketpair bind listen accept connect accept4
        *(129, 130, 138, 240),  # kill tkill rt_sigqueueinfo rt_tgsigqueueinfo
        *(117, 270, 271),  # ptrace process_vm_readv process_vm_writev
        *(154, 157, 164, 261),  # setpgid setsid setrlimit prlimit64
        *(39, 40, 41, 51, 97, 268),  # umount2 mount pivot_root chroot unshare setns
        *(52, 53, 54, 55, 88),  # fchmod fchmodat fchownat fchown utimensat
        *(5, 6, 7, 14, 15, 16),  # setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
        *(180, 186, 190, 194, 279),  # mq_open msgget semget shmget memfd_create
        *(217, 218, 219),  # add_key request_key keyctl
        *(241, 265, 280, 282),  # perf_event_open open_by_handle_at bpf userfaultfd
    ),
)
ARCHITECTURES = {"x86_64": X86_64, "aarch64": ARM64}


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


def forbid(libc: ctypes.CDLL) -> bool:
    """Forbid the calls from now on; false where there is no filter. "No new privileges" must be set."""
    architecture = ARCHITECTURES.get(os.uname().machine)
    if architecture is None:
        return False
    instructions = _filter(architecture)
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    return bool(libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0) == 0)


def _filter(architecture: Architecture) -> list[_Instruction]:
    forbidden = sorted({*architecture.forbidden, *ALIKE})
    instructions = [
        _Instruction(LOAD_WORD, 0, 0, ARCHITECTURE_OFFSET),
        _Instruction(JUMP_IF_EQUAL, 1, 0, architecture.identity),
        _Instruction(ANSWER, 0, 0, KILL),  # a call in the manner of another architecture, whose numbers differ
        _Instruction(LOAD_WORD, 0, 0, NUMBER_OFFSET),
        _Instruction(JUMP_IF_AT_LEAST, 0, 1, X32_CALLS_BEGIN),
        _Instruction(ANSWER, 0, 0, REFUSE),
        _Instruction(JUMP_IF_EQUAL, 0, 4, architecture.thread_signal),
        _Instruction(LOAD_WORD, 0, 0, FIRST_ARGUMENT_OFFSET),
        _Instruction(JUMP_IF_EQUAL, 0, 1, os.getpid()),
        _Instruction(ANSWER, 0, 0, ALLOW),
        _Instruction(ANSWER, 0, 0, REFUSE),
    ]
    for place, number in enumerate(forbidden):
        to_refusal = len(forbidden) - place  # over the calls that are left, and over the allowing answer
        instructions.append(_Instruction(JUMP_IF_EQUAL, to_refusal, 0, number))
    return [*instructions, _Instruction(ANSWER, 0, 0, ALLOW), _Instruction(ANSWER, 0, 0, REFUSE)]
