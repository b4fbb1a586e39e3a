"""Whether reads were fresh: never older than what anyone had been told before, on any route, at any process.

A session's version counts its changes, so the answers about it can be in one order only, that of their versions. They
are linearizable if that order agrees with real time: who asks after an answer came gets that version or a later one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable

from evidence import Evidence
from history import FAIL, History, Op
from verdicts import Verdict

AUDITOR = "auditor"
"""Who reads when all is quiet."""


class Floor:
    """The most that anyone had been told at a time."""

    def __init__(self, told: Iterable[tuple[float, int]]) -> None:
        self._times: list[float] = []
        self._most: list[int] = []
        most = 0
        for at, value in sorted(told):
            most = max(most, value)
            self._times.append(at)
            self._most.append(most)

    def at(self, moment: float) -> int:
        place = bisect_right(self._times, moment)
        return self._most[place - 1] if place else 0


def fresh(history: History, evidence: Evidence) -> Verdict:
    """Invariant 8."""
    verdict = Verdict(
        "8 fresh reads", "No read is older than what was told before; sessions are linearizable; caches end up right."
    )
    by_session: dict[str, list[Op]] = defaultdict(list)
    for op in history.ops:
        by_session[op.told["id"] if op.kind == "open" and op.is_ok else op.session].append(op)
    for session, ops in by_session.items():
        _versions(session, ops, evidence, verdict)
        _pages(session, ops, evidence, verdict)
    reads = [op for op in history.ops if op.kind in {"read_session", "read_history"} and op.is_ok]
    stale = len(verdict.violations)
    _at_the_end(reads, evidence, verdict)
    caches = [op.told.get("cache") for op in reads]
    verdict.counts = {
        "reads": len(reads),
        "cache hits": caches.count("hit"),
        "cache misses": caches.count("miss"),
        "stale": stale,
    }
    return verdict


def _versions(session: str, ops: list[Op], evidence: Evidence, verdict: Verdict) -> None:
    seen = [op for op in ops if op.is_ok and op.told.get("version") is not None]
    floor = Floor((op.ended, op.told["version"]) for op in seen)
    looks: dict[int, str] = {}
    for op in seen:
        version, least = op.told["version"], floor.at(op.invoked)
        is_new = op.kind == "move" or (op.kind == "patch" and op.wish["if_match"] is not None)
        name = f"{op.kind} {op.number} of {session} by {op.client}"
        verdict.demand(
            version > least if is_new else version >= least, f"stale: {name} shows version {version} after {least}"
        )
        if op.kind == "patch" and op.wish["if_match"] is not None:
            verdict.demand(version == op.wish["if_match"] + 1, f"{name} replaced {op.wish['if_match']} by {version}")
        if "digest" in op.told:
            looked = looks.setdefault(version, op.told["digest"])
            verdict.demand(looked == op.told["digest"], f"two looks of one version: {name}, version {version}")
            verdict.demand(op.told.get("etag") in {None, f'"{version}"'}, f"{name}: ETag {op.told.get('etag')}")
    last = next((row.version for row in evidence.sessions if row.id == session), 0)
    for op in ops:
        if op.kind == "patch" and op.code == "version_mismatch":
            verdict.demand(op.wish["if_match"] < last, f"patch {op.number} of {session} was refused without a reason")


def _pages(session: str, ops: list[Op], evidence: Evidence, verdict: Verdict) -> None:
    rows = {row.seq: row for row in evidence.messages if row.session == session}
    ids = {row.id: row.seq for row in rows.values()}
    doomed = {ids.get(op.wish["message"], 0) for op in ops if op.kind == "delete_message" and op.outcome != FAIL}
    floor = Floor((op.ended, seq) for op in ops if op.is_ok for seq in _numbers(op) if seq not in doomed)
    for op in ops:
        if not op.is_ok or op.kind not in {"read_session", "read_history"}:
            continue
        least = floor.at(op.invoked)
        name = f"{op.kind} {op.number} of {session} by {op.client}"
        if op.kind == "read_session" and "messages" in op.told:
            count = op.told["messages"] + len(doomed)
            verdict.demand(count >= least, f"stale: {name} counts {op.told['messages']} messages after number {least}")
        elif op.kind == "read_history":
            seqs = [row[0] for row in op.told["rows"]]
            newest = max(seqs, default=0)
            verdict.demand(newest >= least, f"stale: {name} ends with {newest} after {least}")
            gaps = set(range(min(seqs, default=1), newest + 1)) - set(seqs) - doomed
            is_page = seqs == sorted(set(seqs), reverse=True) and not gaps
            verdict.demand(is_page, f"{name} is no page: {seqs[:5]}")
            for seq, digest in op.told["rows"]:
                row = rows.get(seq)
                is_so = row is not None and (row.is_deleted or row.digest == digest)
                verdict.demand(is_so, f"{name} shows another message {seq} than is stored")


def _numbers(op: Op) -> list[int]:
    """The messages that an answer told of."""
    told = op.told.get("rows", ()) if op.kind == "read_history" else op.told.get("messages", ())
    return [row[0] for row in told] if isinstance(told, list) else []


def _at_the_end(reads: list[Op], evidence: Evidence, verdict: Verdict) -> None:
    stored = {row.id: row for row in evidence.sessions}
    newest: dict[str, int] = defaultdict(int)
    for row in evidence.messages:
        if not row.is_deleted:
            newest[row.session] = max(newest[row.session], row.seq)
    for op in reads:
        if op.client != AUDITOR or op.session not in stored:
            continue
        if op.kind == "read_session":
            shown, held = op.told["version"], stored[op.session].version
        else:
            shown, held = max((row[0] for row in op.told["rows"]), default=0), newest[op.session]
        verdict.demand(
            shown == held, f"in the end, {op.kind} {op.number} shows {shown} of {op.session}, stored: {held}"
        )
