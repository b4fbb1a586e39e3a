"""The filter of system calls, run as the kernel runs it, for both architectures: also for the one that is not here."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from workers.inspection import seccomp
from workers.inspection.seccomp import ALLOW, ALLOWED, ARCHITECTURES, FCNTL, IOCTL, KILL, TGKILL, Architecture, Call

EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS

Answer = Callable[..., int]


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    return ARCHITECTURES[request.param]


@pytest.fixture
def answer(architecture: Architecture) -> Answer:
    """What the filter says to a number with these arguments."""
    program = list(seccomp._filter(architecture))

    def answer_to(number: int, *arguments: int, identity: int = architecture.identity) -> int:
        words = {seccomp.NUMBER_OFFSET: number, seccomp.ARCHITECTURE_OFFSET: identity}
        words |= {16 + 8 * place: argument & 0xFFFFFFFF for place, argument in enumerate([*arguments, *[0] * 6])}
        place, loaded = 0, 0
        while True:
            step = program[place]
            place += 1
            if step.code == seccomp.LOAD_WORD:
                loaded = words[step.value]
            elif step.code == seccomp.JUMP_IF_EQUAL:
                place += step.yes if loaded == step.value else step.no
            elif step.code == seccomp.JUMP_IF_AT_LEAST:
                place += step.yes if loaded >= step.value else step.no
            else:
                return step.value

    return answer_to


def numbers(architecture: Architecture) -> set[int]:
    """The numbers of all calls that may be let through."""
    calls = [*ALLOWED.values(), IOCTL, FCNTL, TGKILL]
    return {number for call in calls if (number := architecture.number_of(call)) is not None}


def test_calls_of_the_list_go_through_and_all_other_known_ones_are_refused(architecture: Architecture, answer: Answer):
    restricted = {architecture.number_of(call) for call in (IOCTL, FCNTL, TGKILL)}
    through = {number for number in range(seccomp.FIRST_UNKNOWN_CALL) if answer(number, -1, -1) == ALLOW}

    assert through == numbers(architecture) - restricted
    assert {answer(number, -1, -1) for number in set(range(seccomp.FIRST_UNKNOWN_CALL)) - through} == {EPERM}


@pytest.mark.parametrize("number", [463, 469, 470, 1000, 0x40000000, 0x40000001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_calls_that_are_younger_than_the_list_and_those_of_x32_are_not_there(answer: Answer, number: int):
    assert answer(number) == ENOSYS


def test_a_call_in_the_manner_of_another_architecture_ends_the_process(answer: Answer):
    i386 = 0x40000003

    assert answer(0, identity=i386) == KILL


@pytest.mark.parametrize(
    ("call", "arguments", "goes_through"),
    [
        (TGKILL, (os.getpid(), 1), True),
        (TGKILL, (os.getppid(), 1), False),
        (FCNTL, (3, 1030), True),
        (FCNTL, (3, 8), False),  # F_SETOWN: whom the kernel signals
        (FCNTL, (3, 4), False),  # F_SETFL
        (IOCTL, (3, 0x5401), True),
        (IOCTL, (3, 0x40086602), False),  # FS_IOC_SETFLAGS
        (IOCTL, (3, 0x8901), False),  # FIOSETOWN
    ],
)
def test_of_some_calls_the_argument_decides(
    architecture: Architecture, answer: Answer, call: Call, arguments: tuple[int, ...], goes_through: bool
):
    number = architecture.number_of(call)
    assert number is not None

    assert answer(number, *arguments) == (ALLOW if goes_through else EPERM)


def test_the_first_unknown_number_is_above_all_that_are_named():
    named = [number for call in ALLOWED.values() for number in call if number is not None]

    assert max(named) < seccomp.FIRST_UNKNOWN_CALL
