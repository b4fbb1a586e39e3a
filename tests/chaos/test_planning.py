"""The nemesis: its faults are made of a seed alone, and every kind of them comes."""

from __future__ import annotations

import random
from itertools import islice

from faults import Fault
from planning import POINTS, Spans, every_fault, rounds_together, single_faults

from service.faults import Point


def dice_of(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - no secret


def test_a_seed_makes_the_same_faults_again():
    def plan(seed: int) -> list[object]:
        dice = dice_of(seed)
        return [*islice(single_faults(dice), 60), *islice(rounds_together(dice), 10)]

    assert plan(7) == plan(7)
    assert plan(7) != plan(8)


def test_every_kind_of_fault_comes_before_any_comes_again():
    kinds = [fault.kind for fault in every_fault(dice_of(1))]
    drawn = [fault.kind for fault in islice(single_faults(dice_of(2)), len(kinds))]

    assert sorted(drawn) == sorted(kinds) == sorted(set(kinds))
    assert Fault("web1", "ends after_commit", 1.0, "after_commit:3").kind == "web: ends after_commit"


def test_a_long_run_has_room_for_what_the_goals_speak_of():
    spans = Spans.of(285.0)

    assert (spans.valkey, spans.postgres_kills) == (30.0, 6)
    assert spans.one_by_one(150.0) + spans.together(150.0 + spans.one_by_one(150.0)) < 285.0 - 150.0


def test_every_crash_window_is_reached_by_some_part():
    assert {point for points in POINTS.values() for point in points} == {point.value for point in Point}
