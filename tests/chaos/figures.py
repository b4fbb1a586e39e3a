"""The figures of a run, from its history: requests, refusals, times, outages, and the goals that they are held to."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from evidence import Evidence
from faults import Struck
from history import History, Sent
from verdicts import Verdict

VALKEY_AWAY, POSTGRES_KILLED, CALM = "Valkey away", "PostgreSQL killed", "calm"
SEVERAL = "several at once"

P99_TIMES_MAX = 2.0
"""What the absence of Valkey may cost the slowest hundredth of the requests."""
BACK_SECONDS_MAX = 3.0
"""From PostgreSQL's return to the first success."""
UNTIMED = {"upload", "download", "stream", "wait"}
"""Requests whose time depends on their size, or that wait for somebody."""


@dataclass(frozen=True)
class Phase:
    """A stretch of a run."""

    name: str
    began: float
    ended: float


@dataclass
class Goal:
    """A figure, and what it is held to."""

    name: str
    wanted: str
    found: str
    is_met: bool


@dataclass
class Figures:
    """What is printed, and kept as one line of JSON."""

    seed: int
    seconds: float
    is_short: bool
    phases: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    promises: list[dict[str, Any]] = field(default_factory=list)
    goals: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)

    @property
    def violations(self) -> int:
        return sum(len(promise["violations"]) for promise in self.promises)

    @property
    def missed(self) -> list[str]:
        return [goal["name"] for goal in self.goals if not goal["is_met"]]


def figures_of(
    figures: Figures,
    history: History,
    evidence: Evidence,
    phases: Sequence[Phase],
    struck: Sequence[Struck],
    verdicts: Sequence[Verdict],
) -> Figures:
    """Fill in all that a run's history tells."""
    figures.phases = [_phase(history, phase, struck) for phase in phases]
    figures.faults = _faults(history, evidence, struck)
    figures.promises = [
        {"name": one.name, "promise": one.promise, "counts": one.counts, "violations": one.violations[:50]}
        for one in verdicts
    ]
    writes, reads = verdicts[0], next(one for one in verdicts if one.name.startswith("8"))
    figures.totals = {
        "requests": len(history.sent),
        "acknowledged": writes.counts["acknowledged"],
        "lost": sum(line.startswith("lost") for line in writes.violations),
        "stale": reads.counts["stale"],
        "faults": len(struck),
        "events": len(evidence.events),
        "deliveries": len(evidence.arrivals),
    }
    figures.goals = [asdict(goal) for goal in _goals(history, phases, struck, figures)]
    return figures


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _within(history: History, phase: Phase) -> list[Sent]:
    return [sent for sent in history.sent if phase.began <= sent.at < phase.ended]


def _phase(history: History, phase: Phase, struck: Sequence[Struck]) -> dict[str, Any]:
    sent = _within(history, phase)
    times = [one.seconds for one in sent if one.status and one.kind not in UNTIMED]
    return {
        "name": phase.name,
        "seconds": round(phase.ended - phase.began, 1),
        "faults": sum(one.phase == phase.name for one in struck),
        "requests": len(sent),
        "refused": sum(one.status == 503 for one in sent),
        "broken": sum(one.status == 0 for one in sent),
        "p50_ms": round(1000 * percentile(times, 0.5), 1),
        "p99_ms": round(1000 * percentile(times, 0.99), 1),
        "max_ms": round(1000 * max(times, default=0.0), 1),
    }


def _faults(history: History, evidence: Evidence, struck: Sequence[Struck]) -> list[dict[str, Any]]:
    successes = _successes(history, evidence)
    counted: Counter[str] = Counter()
    reached: Counter[str] = Counter()
    longest: dict[str, float] = defaultdict(float)
    for one in struck:
        kind = one.fault.kind
        counted[kind] += 1
        reached[kind] += one.was_reached
        if one.phase != SEVERAL and one.was_reached:
            longest[kind] = max(longest[kind], _outage(successes[_served_by(one.fault.part)], one))
    together = [one for one in struck if one.phase == SEVERAL]
    rows = [
        {
            "kind": kind,
            "count": counted[kind],
            "met": reached[kind],
            "outage_seconds": round(longest[kind], 2) if kind in longest else None,
        }
        for kind in sorted(counted)
    ]
    if together:
        outage = max(_outage(successes["all"], one) for one in together)
        rows.append({"kind": SEVERAL, "count": len(together), "met": len(together), "outage_seconds": round(outage, 2)})
    return rows


def _successes(history: History, evidence: Evidence) -> dict[str, list[float]]:
    """When each part's work succeeded, sorted."""
    moments: dict[str, list[float]] = defaultdict(list)
    for sent in history.sent:
        if 200 <= sent.status < 400 and sent.kind != "stream":
            moments["all"].append(sent.ended)
            moments[f"web{sent.web}"].append(sent.ended)
    for row in evidence.arrivals:
        moments["webhooks"].append(row.at)
        if row.type == "attachment.processed":
            moments["attachments"].append(row.at)
    return {name: sorted(times) for name, times in moments.items()} | {"": []}


def _served_by(part: str) -> str:
    """By whose successes an outage of this part shows."""
    if part.startswith("web") and not part.startswith("webhooks"):
        return part
    if part.startswith("attachments"):
        return "attachments"
    return "webhooks" if part.startswith(("webhooks", "events")) else "all"


def _outage(successes: Sequence[float], struck: Struck) -> float:
    """The longest time without a success from a fault to the first success after its mending."""
    first, back = bisect_left(successes, struck.struck_at), bisect_left(successes, struck.mended_at)
    moments = [struck.struck_at, *successes[first : back + 1]]
    return max((after - before for before, after in pairwise(moments)), default=0.0)


def _goals(history: History, phases: Sequence[Phase], struck: Sequence[Struck], figures: Figures) -> Iterable[Goal]:
    by_name = {phase.name: phase for phase in phases}
    rows = {row["name"]: row for row in figures.phases}
    if VALKEY_AWAY in by_name:
        failed = sum(one.status == 0 or one.status >= 500 for one in _within(history, by_name[VALKEY_AWAY]))
        yield Goal(
            f"no request fails while Valkey is away for {rows[VALKEY_AWAY]['seconds']:.0f} s",
            "0",
            str(failed),
            failed == 0,
        )
        calm, away = rows[CALM]["p99_ms"], rows[VALKEY_AWAY]["p99_ms"]
        times = away / calm if calm else 0.0
        yield Goal(
            "the slowest hundredth, against the calm",
            f"≤ {P99_TIMES_MAX:.0f} ×",
            f"{times:.2f} × ({away:.0f} ms, calm {calm:.0f} ms)",
            times <= P99_TIMES_MAX,
        )
    kills = [one for one in struck if one.phase == POSTGRES_KILLED]
    if kills:
        refused = rows[POSTGRES_KILLED]["refused"]
        yield Goal(f"answers of 503 while PostgreSQL was away, kills: {len(kills)}", "> 0", str(refused), refused > 0)
        slowest = max(_first_success(history, one.mended_at) for one in kills)
        yield Goal(
            "the first success at each web process after PostgreSQL is back",
            f"≤ {BACK_SECONDS_MAX:.0f} s",
            f"{slowest:.2f} s",
            slowest <= BACK_SECONDS_MAX,
        )
    yield Goal("acknowledged writes lost", "0", str(figures.totals["lost"]), figures.totals["lost"] == 0)
    yield Goal("stale reads", "0", str(figures.totals["stale"]), figures.totals["stale"] == 0)


def _first_success(history: History, moment: float) -> float:
    """How long after a moment the slower web process answered well again."""
    webs = {sent.web for sent in history.sent}
    waits = []
    for web in webs:
        ends = [
            one.ended for one in history.sent if one.web == web and 200 <= one.status < 300 and one.at >= moment - 0.001
        ]
        waits.append(min(ends, default=float("inf")) - moment)
    return max(waits)
