"""Whether whoever listens was told everything: webhooks and streams."""

from __future__ import annotations

from collections import Counter, defaultdict

from evidence import Evidence
from history import History
from verdicts import Verdict


def delivered(_history: History, evidence: Evidence) -> Verdict:
    """Invariant 6."""
    verdict = Verdict(
        "6 deliveries", "Each event arrived, as it is stored, under one id, in the same bytes each time, and signed."
    )
    events = {row.id: row for row in evidence.events}
    arrived = {row.event for row in evidence.arrivals}
    verdict.violations += [f"the event {missing} never arrived" for missing in sorted(set(events) - arrived)]
    verdict.demand(arrived <= set(events), f"what is no event arrived: {sorted(arrived - set(events))[:3]}")
    statuses = Counter(row.status for row in evidence.deliveries)
    is_over = set(statuses) <= {"succeeded"} and Counter(row.event for row in evidence.deliveries) == Counter(
        list(events)
    )
    verdict.demand(
        is_over, f"deliveries are not one for each event, and succeeded: {dict(statuses)}, {len(events)} events"
    )
    bodies: dict[str, set[str]] = defaultdict(set)
    for row in evidence.arrivals:
        bodies[row.event].add(row.digest)
        verdict.demand(row.is_signed, f"a request for {row.event} was not signed")
        if (event := events.get(row.event)) is not None:
            is_it = (row.session, row.seq, row.type, row.data) == (event.session, event.seq, event.type, event.data)
            verdict.demand(is_it, f"a request for {row.event} told of another {row.type} than is stored: {event.type}")
    for id_, versions in bodies.items():
        verdict.demand(len(versions) == 1, f"{id_} arrived in {len(versions)} versions")
    verdict.counts = {
        "events": len(events),
        "arrivals": len(evidence.arrivals),
        "sent again": len(evidence.arrivals) - len(arrived),
    }
    return verdict


def delivered_in_order(_history: History, evidence: Evidence) -> Verdict:
    """Invariant 7."""
    verdict = Verdict("7 order of deliveries", "The events of a session arrived first in the order of their numbers.")
    first: dict[str, list[int]] = defaultdict(list)
    seen: set[str] = set()
    for row in sorted(evidence.arrivals, key=lambda row: row.at):
        if row.event not in seen:
            seen.add(row.event)
            first[row.session].append(row.seq)
    for session, seqs in first.items():
        wrong = next((seq for place, seq in enumerate(seqs, start=1) if seq != place), None)
        verdict.demand(wrong is None, f"{session}: the event {wrong} arrived out of turn")
    verdict.counts = {"sessions": len(first), "first arrivals": len(seen)}
    return verdict


def streams_complete(history: History, evidence: Evidence) -> Verdict:
    """What issue 5 promises of streams, under these faults as well."""
    verdict = Verdict(
        "13 streams",
        "Each stream told every event once and in order, over all its connections, and none before its state.",
    )
    ids: dict[str, dict[int, str]] = defaultdict(dict)
    for row in evidence.events:
        ids[row.session][row.seq] = row.id
    for watched in history.watched:
        told: dict[str, list[int]] = defaultdict(list)
        for session, seq, id_, _ in watched.told:
            told[session].append(seq)
            verdict.demand(ids[session].get(seq) == id_, f"{watched.name} told of an event {seq} that is another")
        for session in [watched.session] if watched.session else list(ids):
            expected = sorted(ids[session])
            if told[session] != expected:
                verdict.violations.append(f"{watched.name} of {session}: {_difference(told[session], expected)}")
    peeks = [op for op in history.ops if op.kind == "read_event" and op.told]
    for op in peeks:
        verdict.demand(op.told["is_there"], f"an event told of the message {op.wish['message']} before it was there")
    verdict.counts = {
        "streams": len(history.watched),
        "connections": sum(watched.connections for watched in history.watched),
        "events told": sum(len(watched.told) for watched in history.watched),
        "looked up at once": len(peeks),
    }
    return verdict


def _difference(told: list[int], expected: list[int]) -> str:
    missing = sorted(set(expected) - set(told))
    twice = [seq for seq, times in Counter(told).items() if times > 1]
    if missing or twice:
        return f"missing {missing[:5]}, twice {twice[:5]}, of {len(expected)}"
    return "out of order"
