"""Which faults come when: made of the seed alone, before anything starts, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle

from faults import Fault

WEBS = ("web0", "web1")
WORKERS = ("events0", "webhooks0", "attachments0")
SERVERS = ("postgres", "valkey")
PROCESSES = (*WEBS, *WORKERS)

POINTS = {
    "web": ("before_commit", "after_commit", "after_push", "mid_upload"),
    "events": ("before_commit", "after_commit", "after_push"),
    "webhooks": ("before_commit", "after_commit"),
    "attachments": ("before_commit", "after_commit"),
}
"""The crash windows that can be reached on purpose, by what passes them."""

POINT_SECONDS = 4.0
"""How long a process may take to start and to pass its point."""
POINT_PASSES_MAX = 12
UPLOAD_PASSES_MAX = 2

HANG_SECONDS = (1.0, 3.0)
AWAY_SECONDS = (0.2, 1.5)

REST_SECONDS = 30.0
"""What is kept free for coming to rest and judging."""

LONG_SECONDS = 120.0
"""A run from this length on has room for thirty seconds without Valkey and six kills of PostgreSQL."""


@dataclass(frozen=True)
class Spans:
    """How long each phase lasts, in seconds; the last two share what is left."""

    seconds: float
    calm: float
    valkey: float
    postgres_kills: int

    @classmethod
    def of(cls, seconds: float) -> Spans:
        """The phases of a run that lasts so long in all."""
        if seconds >= LONG_SECONDS:
            return cls(seconds, calm=30.0, valkey=30.0, postgres_kills=6)
        return cls(seconds, calm=5.0, valkey=6.0, postgres_kills=1)

    def one_by_one(self, elapsed: float) -> float:
        """The share of the faults one at a time, once the phases before have taken so long."""
        return max(8.0, 0.55 * (self.seconds - REST_SECONDS - elapsed))

    def together(self, elapsed: float) -> float:
        """The share of several faults at once, likewise."""
        return max(5.0, self.seconds - REST_SECONDS - elapsed)


def single_faults(dice: random.Random) -> Iterator[Fault]:
    """Every fault there is, in random order, and again: each kind comes before any comes twice."""
    for _ in cycle([None]):
        faults = list(every_fault(dice))
        dice.shuffle(faults)
        yield from faults


def every_fault(dice: random.Random) -> Iterator[Fault]:
    """One of each kind; which of two equal parts it meets, and for how long, is chance."""
    groups = [(dice.choice(WEBS), "web"), *((name, name.rstrip("0")) for name in WORKERS)]
    for name, sort in groups:
        yield Fault(name, "kill -9", dice.uniform(*AWAY_SECONDS))
        yield Fault(name, "hang", dice.uniform(*HANG_SECONDS))
        yield Fault(name, "restart", 0.0)
        for point in POINTS[sort]:
            passes = dice.randint(1, UPLOAD_PASSES_MAX if point == "mid_upload" else POINT_PASSES_MAX)
            yield Fault(name, f"ends {point}", POINT_SECONDS, f"{point}:{passes}")
    yield Fault("postgres", "kill -9", dice.uniform(*AWAY_SECONDS))
    yield Fault("postgres", "hang", dice.uniform(*HANG_SECONDS))
    yield Fault("postgres", "restart", dice.uniform(*AWAY_SECONDS))
    yield Fault("postgres", "connections cut", 0.0)
    yield Fault("valkey", "kill -9", dice.uniform(*AWAY_SECONDS))
    yield Fault("valkey", "hang", dice.uniform(*HANG_SECONDS))
    yield Fault("valkey", "restart", dice.uniform(*AWAY_SECONDS))
    yield Fault("valkey", "emptied", 0.0)
    yield Fault("valkey", "full", dice.uniform(*HANG_SECONDS))
    yield Fault("valkey", "connections cut", 0.0)
    yield Fault("clients", "connections cut", 0.0)


def rounds_together(dice: random.Random) -> Iterator[list[Fault]]:
    """Several parts at once; every third time all of them are killed."""
    for number in cycle(range(3)):
        if number == 0:
            yield [Fault(part, "kill -9", dice.uniform(*AWAY_SECONDS)) for part in (*SERVERS, *PROCESSES)]
            continue
        hit = dice.sample((*SERVERS, *PROCESSES), dice.randint(2, 4))
        ways = [dice.choice(("kill -9", "kill -9", "hang", "restart")) for _ in hit]
        faults = [Fault(part, way, dice.uniform(*AWAY_SECONDS)) for part, way in zip(hit, ways, strict=True)]
        faults += [Fault("clients", "connections cut", 0.0)] if dice.random() < 0.5 else []
        yield faults
