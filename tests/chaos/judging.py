"""All checks over one run: pure functions of what clients were told and what there is in the end."""

from __future__ import annotations

from checks_reads import fresh
from checks_rows import answers_polite, fold_is_state, gapless, lives_are_possible, nothing_left_over, parts_lived
from checks_telling import delivered, delivered_in_order, streams_complete
from checks_writes import acknowledged, decided_once, files_whole
from evidence import Evidence
from history import History
from verdicts import Verdict

CHECKS = (
    acknowledged,
    gapless,
    fold_is_state,
    lives_are_possible,
    decided_once,
    delivered,
    delivered_in_order,
    fresh,
    files_whole,
    nothing_left_over,
    answers_polite,
    parts_lived,
    streams_complete,
)
"""The ten invariants, in their order, and three promises beside them."""


def judge(history: History, evidence: Evidence) -> list[Verdict]:
    """What each check says."""
    return [check(history, evidence) for check in CHECKS]
