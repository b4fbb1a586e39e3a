"""Jobs that nobody of ours made are not run, and stop nobody."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from eventually import until
from workshop import SLOTS, has, idle, workshop

from service.embedded.servers import EmbeddedServers


class Hostile:
    """Runs code in whoever unpickles it."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.trace, "executed")


async def test_a_pickled_job_is_not_executed_and_does_not_stop_the_worker(valkey: EmbeddedServers, tmp_path: Path):
    trace, canary = tmp_path / "trace", tmp_path / "canary"
    done: list[int] = []
    pickle.loads(pickle.dumps(Hostile(canary)))  # noqa: S301 - to see that it would have worked
    assert canary.read_text() == "executed"

    async def work(_: dict[str, Any], number: int) -> None:
        done.append(number)

    async with workshop(valkey, work=work) as shop:
        await shop.enqueue_raw(pickle.dumps({"t": 1, "f": "work", "a": (Hostile(trace),), "k": {}, "et": 1}))
        await shop.enqueue("work", 1)
        await until(has(done, 1))
        await until(idle(shop))

        assert await shop.queued() == 0
        await shop.assert_no_slot_is_leaked()
    assert not trace.exists()
    assert done == [1]


NONSENSE: dict[str, object] = {
    "no job at all": None,
    "a number": 7,
    "an empty job": {},
    "an unknown function": {"t": 1, "f": "rm", "a": [], "k": {}, "et": 1},
    "a list for a function": {"t": 1, "f": [["work"]], "a": [], "k": {}, "et": 1},
    "a number for arguments": {"t": 1, "f": "work", "a": 7, "k": {}, "et": 1},
    "too many arguments": {"t": 1, "f": "work", "a": [1, 2, 3], "k": {}, "et": 1},
    "words for a time": {"t": 1, "f": "work", "a": [5], "k": {}, "et": "now"},
    "words for a try": {"t": "x", "f": "work", "a": [5], "k": {}, "et": 1},
}


@pytest.mark.parametrize("name", NONSENSE)
async def test_a_job_that_makes_no_sense_does_not_stop_the_worker(valkey: EmbeddedServers, name: str):
    done: list[int] = []

    async def work(_: dict[str, Any], number: int) -> None:
        done.append(number)

    async with workshop(valkey, work=work) as shop:
        await shop.enqueue_raw(msgspec.msgpack.encode(NONSENSE[name]))
        await until(idle(shop))
        for number in range(SLOTS * 2):
            await shop.enqueue("work", number)
        await until(has(done, SLOTS * 2 - 1))
        await until(idle(shop))

        await shop.assert_no_slot_is_leaked()


async def test_a_job_that_fails_does_not_stop_the_worker(valkey: EmbeddedServers):
    done: list[int] = []

    async def work(_: dict[str, Any], number: int) -> None:
        if number == 0:
            raise ZeroDivisionError
        done.append(number)

    async with workshop(valkey, work=work) as shop:
        await shop.enqueue("work", 0)
        await shop.enqueue("work", 1)
        await until(has(done, 1))
        await until(idle(shop))

        assert await shop.queued() == 0
        await shop.assert_no_slot_is_leaked()
