"""What a run is told as: tables for the terminal, one line of JSON, and the page docs/reliability.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from figures import Figures

VIOLATIONS_SHOWN = 8

PAGE = Path(__file__).with_name("page.md")
"""The words around the figures."""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as Markdown, which reads well in a terminal, too."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(line[place]) for line in [list(heads), *cells]) for place in range(len(heads))]
    lines = [list(heads), ["-" * width for width in widths], *cells]
    return "".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |\n" for line in lines
    )


def told(figures: Figures) -> str:
    """All of a run, for the terminal."""
    parts = [
        f"\nseed {figures.seed}, {figures.seconds:.0f} s\n\n",
        _phases([figures]),
        "\n",
        _faults([figures]),
        "\n",
        table(
            ("promise", "looked at", "violations"),
            [(one["name"], _counts(one["counts"]), len(one["violations"])) for one in figures.promises],
        ),
        "\n",
        table(
            ("goal", "wanted", "found", ""),
            [(one["name"], one["wanted"], one["found"], _met(one)) for one in figures.goals],
        ),
    ]
    for one in figures.promises:
        shown = one["violations"][:VIOLATIONS_SHOWN]
        parts += [f"\nBROKEN: {one['name']}: {one['promise']}\n"] if shown else []
        parts += [f"  {line}\n" for line in shown]
    return "".join(parts)


def page(runs: Sequence[Figures]) -> str:
    """docs/reliability.md."""
    total = {name: sum(run.totals[name] for run in runs) for name in runs[0].totals}
    seeds = ", ".join(str(run.seed) for run in runs)
    summary = (
        f"Seeds {seeds}: {total['requests']:,} requests and {total['faults']:,} faults. "
        f"{total['acknowledged']:,} acknowledged writes, {total['lost']} of them lost; "
        f"{total['events']:,} events, told by {total['deliveries']:,} webhooks; {total['stale']} stale reads; "
        f"{sum(run.violations for run in runs)} violations."
    )
    return PAGE.read_text().format(
        again=" ".join(f"--seed {run.seed}" for run in runs),
        summary=summary,
        goals=table(("goal", "wanted", *(f"seed {run.seed}" for run in runs)), _goals(runs)),
        promises=table(
            ("promise", "what holds", "looked at, under all seeds", "violations"),
            [_promise(runs, place) for place in range(len(runs[0].promises))],
        ),
        phases=_phases(runs),
        faults=_faults(runs).rstrip(),
    )


def _goals(runs: Sequence[Figures]) -> list[list[str]]:
    return [
        [goal["name"], goal["wanted"], *(f"{run.goals[place]['found']} {_met(run.goals[place])}" for run in runs)]
        for place, goal in enumerate(runs[0].goals)
    ]


def _met(goal: dict[str, Any]) -> str:
    return "✓" if goal["is_met"] else "missed"


def _promise(runs: Sequence[Figures], place: int) -> list[object]:
    own = [run.promises[place] for run in runs]
    counts = {name: sum(one["counts"][name] for one in own) for name in own[0]["counts"]}
    return [own[0]["name"], own[0]["promise"], _counts(counts), sum(len(one["violations"]) for one in own)]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _phases(runs: Sequence[Figures]) -> str:
    heads = ("seed", "phase", "seconds", "faults", "requests", "refused", "broken", "p50 ms", "p99 ms", "max ms")
    names = ("name", "seconds", "faults", "requests", "refused", "broken", "p50_ms", "p99_ms", "max_ms")
    return table(heads, [[run.seed, *(phase[name] for name in names)] for run in runs for phase in run.phases])


def _faults(runs: Sequence[Figures]) -> str:
    kinds: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for fault in run.faults:
            kinds.setdefault(fault["kind"], []).append(fault)
    rows = []
    for kind, own in sorted(kinds.items()):
        outages = [one["outage_seconds"] for one in own if one["outage_seconds"] is not None]
        longest = f"{max(outages):.2f} s" if outages else "–"
        rows.append((kind, sum(one["count"] for one in own), sum(one["met"] for one in own), longest))
    return table(("fault", "times", "met", "longest outage"), rows)
