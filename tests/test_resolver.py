"""Look-ups of callers' names: shared, bounded, and never in the way of anything else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import pytest
from eventually import until
from silent_names import ADDRESS, DEADLINE_SECONDS, Names, naming

from service import resolver as module
from service.resolver import NotAsked, Resolver


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[Names]:
    """However slow the machine is, none of its own names is late."""
    monkeypatch.setattr(module, "RESOLVE_SECONDS_MAX", DEADLINE_SECONDS)
    monkeypatch.setattr(module, "ROOM_SECONDS_MAX", DEADLINE_SECONDS)
    with naming(monkeypatch) as names:
        yield names


async def test_a_name_is_asked_for_once_by_all_who_want_it_at_the_same_time(names: Names):
    resolver = Resolver()
    wanting = [asyncio.create_task(resolver.resolve("silent.test", 443)) for _ in range(5)]
    await until(lambda: names.waiting == 1)
    names.answer.set()

    assert await asyncio.gather(*wanting) == [[ADDRESS]] * 5
    assert names.asked == {"silent.test": 1}
    assert await resolver.resolve("silent.test", 443) == [ADDRESS]  # nothing is remembered
    assert names.asked == {"silent.test": 2}


async def test_who_gives_up_takes_the_answer_from_nobody(names: Names):
    resolver = Resolver()
    first, second = [asyncio.create_task(resolver.resolve("silent.test", 443)) for _ in range(2)]
    await until(lambda: names.waiting == 1)
    first.cancel()
    await asyncio.wait({first})
    names.answer.set()

    assert first.cancelled()
    assert await second == [ADDRESS]


async def test_a_name_that_is_silent_has_no_address_and_one_thread_however_often_it_is_wanted(
    names: Names, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "RESOLVE_SECONDS_MAX", 0.01)
    resolver = Resolver()

    assert [await resolver.resolve("silent.test", 443) for _ in range(5)] == [[]] * 5
    await until(lambda: names.waiting == 1)
    assert names.asked == {"silent.test": 1}


async def test_a_name_for_which_there_is_no_thread_is_not_asked_for_until_one_has_ended(
    names: Names, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "LOOKUPS_MAX", 1)
    monkeypatch.setattr(module, "RESOLVE_SECONDS_MAX", 0.01)
    monkeypatch.setattr(module, "ROOM_SECONDS_MAX", 0.01)
    resolver = Resolver()
    assert await resolver.resolve("silent.test", 443) == []
    with pytest.raises(NotAsked):
        await resolver.resolve("hooks.test", 443)
    await until(lambda: names.waiting == 1)
    assert names.asked == {"silent.test": 1}

    monkeypatch.setattr(module, "RESOLVE_SECONDS_MAX", DEADLINE_SECONDS)
    monkeypatch.setattr(module, "ROOM_SECONDS_MAX", DEADLINE_SECONDS)
    waiting = asyncio.create_task(resolver.resolve("hooks.test", 443))
    names.answer.set()

    assert await waiting == [ADDRESS]


async def test_silent_names_cannot_take_the_room_of_those_that_have_answered(
    names: Names, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "LOOKUPS_MAX", 1)
    monkeypatch.setattr(module, "PROMPT_SECONDS", DEADLINE_SECONDS)
    resolver = Resolver()
    await resolver.resolve("hooks.test", 443)
    await resolver.resolve("unknown.test", 443)
    monkeypatch.setattr(module, "RESOLVE_SECONDS_MAX", 0.01)
    await resolver.resolve("silent.test", 443)
    await until(lambda: names.waiting == 1)
    monkeypatch.setattr(module, "RESOLVE_SECONDS_MAX", DEADLINE_SECONDS)

    assert await resolver.resolve("hooks.test", 443) == [ADDRESS]
    assert await resolver.resolve("unknown.test", 443) == []


async def test_a_name_that_was_slow_once_waits_with_those_that_nobody_knows(
    names: Names, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "LOOKUPS_MAX", 1)
    resolver = Resolver()
    monkeypatch.setattr(module, "PROMPT_SECONDS", DEADLINE_SECONDS)
    await resolver.resolve("hooks.test", 443)
    monkeypatch.setattr(module, "PROMPT_SECONDS", -1.0)
    await resolver.resolve("hooks.test", 443)
    monkeypatch.setattr(module, "RESOLVE_SECONDS_MAX", 0.01)
    monkeypatch.setattr(module, "ROOM_SECONDS_MAX", 0.01)
    await resolver.resolve("silent.test", 443)

    with pytest.raises(NotAsked):
        await resolver.resolve("hooks.test", 443)


async def test_no_more_names_are_remembered_than_there_is_room_for(names: Names, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PROMPT_SECONDS", DEADLINE_SECONDS)
    monkeypatch.setattr(module, "PROMPT_NAMES_MAX", 2)
    monkeypatch.setattr(module, "LOOKUPS_MAX", 1)
    resolver = Resolver()
    for name in ("first", "second", "first", "third"):
        await resolver.resolve(f"{name}.test", 443)
    monkeypatch.setattr(module, "RESOLVE_SECONDS_MAX", 0.01)
    monkeypatch.setattr(module, "ROOM_SECONDS_MAX", 0.01)
    await resolver.resolve("silent.test", 443)
    monkeypatch.setattr(module, "RESOLVE_SECONDS_MAX", DEADLINE_SECONDS)

    assert await resolver.resolve("first.test", 443) == [ADDRESS]
    with pytest.raises(NotAsked):
        await resolver.resolve("second.test", 443)


@pytest.mark.parametrize("host", ["93.184.216.34", "2606:4700:4700::1111", "127.1", "0x7f000001"])
async def test_an_address_is_its_own_answer_and_needs_no_thread(host: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "LOOKUPS_MAX", 0)

    assert len(await Resolver().resolve(host, 443)) == 1


@pytest.mark.parametrize("host", ["a..test", ".test", f"{'x' * 64}.test"])
async def test_what_cannot_be_a_name_has_no_address(host: str):
    assert await Resolver().resolve(host, 443) == []


async def test_silent_names_keep_no_other_work_of_the_process_from_its_threads(names: Names):
    resolver = Resolver()
    wanting = [asyncio.create_task(resolver.resolve(f"silent{number}.test", 443)) for number in range(40)]
    await until(lambda: names.waiting == 40)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.to_thread(lambda: None)

    assert names.waiting == 40
    names.answer.set()
    await asyncio.gather(*wanting)


STOPPING = """
import asyncio, socket, threading
from service import resolver

def ask(*arguments, flags=0, **more):
    if flags:
        raise socket.gaierror
    threading.Event().wait()

socket.getaddrinfo = ask
resolver.RESOLVE_SECONDS_MAX = 0.01
print(asyncio.run(resolver.Resolver().resolve("silent.test", 443)))
"""


def test_a_process_ends_though_a_name_is_still_being_asked_for():
    ended = subprocess.run(
        [sys.executable, "-c", STOPPING], timeout=DEADLINE_SECONDS, capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "[]\n", "")
