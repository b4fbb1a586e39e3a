"""What is told of a run: figures from its history alone, and a page that is those figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evidence import Arrival, Evidence
from faults import Fault, Struck
from figures import CALM, POSTGRES_KILLED, SEVERAL, VALKEY_AWAY, Figures, Phase, figures_of
from history import History, Sent
from judging import judge
from telling import page

KEPT = Path(__file__).with_name("figures.jsonl")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


def sent(at: float, status: int, seconds: float = 0.01, web: int = 0) -> Sent:
    return Sent(at, seconds, web, "append", status, has_retry_after=status == 503)


@pytest.fixture
def run() -> Figures:
    """Ten calm seconds, ten without Valkey, and one kill of PostgreSQL that costs two seconds."""
    history, evidence = History(), Evidence(arrivals=[Arrival("e", "s", 1, "session.created", "b", True, 21.0)])  # noqa: FBT003
    for tenth in range(200):
        history.sent += [sent(tenth / 10, 200, 0.05 if (tenth, web) == (150, 0) else 0.01, web) for web in (0, 1)]
    history.sent += [sent(20.5, 503), sent(21.0, 503), sent(22.2, 201, web=0), sent(22.4, 201, web=1)]
    history.sent += [sent(23.0, 0), sent(24.0, 200)]
    phases = [
        Phase(CALM, 0, 10),
        Phase(VALKEY_AWAY, 10, 20),
        Phase(POSTGRES_KILLED, 20, 22.9),
        Phase(SEVERAL, 22.9, 25),
    ]
    struck = [
        Struck(Fault("valkey", "kill -9", 9.5), VALKEY_AWAY, 10.0, 19.5),
        Struck(Fault("postgres", "kill -9", 1.0), POSTGRES_KILLED, 20.0, 22.0),
        Struck(
            Fault("web1", "ends after_commit", 1.0, "after_commit:2"), "one at a time", 22.5, 22.6, was_reached=False
        ),
        Struck(Fault("web0", "kill -9", 1.0), SEVERAL, 22.9, 23.1),
    ]
    return figures_of(Figures(1, 25.0, is_short=False), history, evidence, phases, struck, judge(history, evidence))


def test_phases_count_what_was_asked_answered_and_refused(run: Figures):
    calm, away, killed, several = run.phases

    assert (calm["requests"], calm["p99_ms"], away["p99_ms"], away["max_ms"]) == (200, 10.0, 10.0, 50.0)
    assert (killed["requests"], killed["refused"], killed["faults"]) == (4, 2, 1)
    assert (several["broken"], several["faults"]) == (1, 1)


def test_an_outage_lasts_from_the_fault_to_the_next_success(run: Figures):
    outages = {row["kind"]: (row["count"], row["met"], row["outage_seconds"]) for row in run.faults}

    assert outages == {
        "postgres: kill -9": (1, 1, 2.21),
        "valkey: kill -9": (1, 1, 0.1),
        "web: ends after_commit": (1, 0, None),
        "web: kill -9": (1, 1, None),
        SEVERAL: (1, 1, 1.11),
    }


def test_goals_are_held_against_the_phases(run: Figures):
    found = [(goal["found"].split()[0], goal["is_met"]) for goal in run.goals]

    assert found == [("0", True), ("1.00", True), ("2", True), ("0.41", True), ("0", True), ("0", True)]


def test_the_page_is_made_of_its_figures_alone(run: Figures):
    text = page([run, run])

    assert "Seeds 1, 1: 812 requests and 8 faults." in text
    assert all(promise["promise"] in text for promise in run.promises)


def test_the_page_of_the_documents_is_what_its_runs_wrote():
    runs = [Figures(**json.loads(line)) for line in KEPT.read_text().splitlines()]

    assert PAGE.read_text() == page(runs)
    assert sum(run.violations for run in runs) == 0
    assert not any(run.missed for run in runs)
    assert len(runs) >= 3
