"""Whether reads were fresh: never older than what anyone had been told before, on any route, at any process.

A session's version counts its changes, so the answers about it can be in one order only, that of their versions. They
are linearizable if that order agrees with real time: who asks after an answer came gets that version or a later one.

Told are answers to writes, and events: nothing may be read that is older than those. A change whose answer is still to
come, because its writer was killed, may be read already in one place and not yet in another: such steps back are
counted, and must be over within a minute.
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

READS = {"read_session", "read_history"}
STEP_BACK_SECONDS_MAX = 60.0
"""Longer than any copy lives."""

STALE, BACK = "stale", "steps back"


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


class Floors:
    """What writes and events had told, and what reads had."""

    def __init__(self, told: Iterable[tuple[float, int]], read: Iterable[tuple[float, int]]) -> None:
        told, read = list(told), list(read)
        self._told = Floor(told)
        self._any = Floor([*told, *read])

    def most(self, op: Op) -> int:
        """The most that anyone had been told in any way, before this was asked."""
        return self._any.at(op.invoked)

    def judge(self, op: Op, shown: int, what: str, verdict: Verdict) -> None:
        """Hold a read against them."""
        least = max(self._told.at(op.invoked), self._any.at(op.invoked - STEP_BACK_SECONDS_MAX))
        if shown < least:
            verdict.counts[STALE] += 1
            verdict.violations.append(f"stale: {_name(op)} shows {what} {shown} after {least}")
        elif shown < self._any.at(op.invoked):
            verdict.counts[BACK] += 1


def fresh(history: History, evidence: Evidence) -> Verdict:
    """Invariant 8."""
    verdict = Verdict(
        "8 fresh reads",
        "No read is older than what a write's answer or an event had told; sessions are linearizable; "
        "in the end every copy is what is stored.",
    )
    reads = [op for op in history.ops if op.kind in READS and op.is_ok]
    caches = [op.told.get("cache") for op in reads]
    verdict.counts = {
        "reads": len(reads),
        "cache hits": caches.count("hit"),
        "cache misses": caches.count("miss"),
        STALE: 0,
        BACK: 0,
    }
    by_session: dict[str, list[Op]] = defaultdict(list)
    for op in history.ops:
        by_session[op.told["id"] if op.kind == "open" and op.is_ok else op.session].append(op)
    events = _messages_told(history, evidence)
    for session, ops in by_session.items():
        _versions(session, ops, evidence, verdict)
        _pages(session, ops, events[session], evidence, verdict)
    _at_the_end(reads, evidence, verdict)
    return verdict


def _messages_told(history: History, evidence: Evidence) -> dict[str, list[tuple[float, int]]]:
    """By session: when streams had told of which message."""
    seqs = {message.id: message.seq for message in evidence.messages}
    numbers = {
        event.id: seqs.get(event.data["message_id"], 0) for event in evidence.events if event.type == "message.created"
    }
    told: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for watched in history.watched:
        for session, _, id_, at in watched.told:
            told[session].append((at, numbers.get(id_, 0)))
    return told


def _versions(session: str, ops: list[Op], evidence: Evidence, verdict: Verdict) -> None:
    seen = [op for op in ops if op.is_ok and op.told.get("version") is not None]
    floors = Floors(
        [(op.ended, op.told["version"]) for op in seen if op.kind not in READS],
        [(op.ended, op.told["version"]) for op in seen if op.kind in READS],
    )
    looks: dict[int, str] = {}
    for op in seen:
        version = op.told["version"]
        if op.kind in READS:
            floors.judge(op, version, "version", verdict)
        else:
            _changed(op, version, floors.most(op), verdict)
        if "digest" in op.told:
            looked = looks.setdefault(version, op.told["digest"])
            verdict.demand(looked == op.told["digest"], f"two looks of one version: {_name(op)}, version {version}")
            verdict.demand(op.told.get("etag") in {None, f'"{version}"'}, f"{_name(op)}: ETag {op.told.get('etag')}")
    last = next((row.version for row in evidence.sessions if row.id == session), 0)
    for op in ops:
        if op.kind == "patch" and op.code == "version_mismatch":
            verdict.demand(op.wish["if_match"] < last, f"{_name(op)} was refused without a reason")


def _changed(op: Op, version: int, least: int, verdict: Verdict) -> None:
    """A change makes a version that nobody has seen before; but a repeated patch may find its own effect."""
    if_match = op.wish.get("if_match")
    is_new = op.kind in {"move", "open"} or if_match is not None
    verdict.demand(version > least if is_new else version >= least, f"{_name(op)} made version {version} after {least}")
    if if_match is not None:
        verdict.demand(version == if_match + 1, f"{_name(op)} replaced {if_match} by {version}")


def _pages(session: str, ops: list[Op], events: list[tuple[float, int]], evidence: Evidence, verdict: Verdict) -> None:
    rows = {row.seq: row for row in evidence.messages if row.session == session}
    ids = {row.id: row.seq for row in rows.values()}
    doomed = {ids.get(op.wish["message"], 0) for op in ops if op.kind == "delete_message" and op.outcome != FAIL}
    told = [(op.ended, message[0]) for op in ops if op.is_ok and op.kind not in READS for message in _spoken(op)]
    read = [(op.ended, row[0]) for op in ops if op.is_ok and op.kind == "read_history" for row in op.told["rows"]]
    floors = Floors(
        [(at, seq) for at, seq in [*told, *events] if seq not in doomed],
        [(at, seq) for at, seq in read if seq not in doomed],
    )
    for op in ops:
        if op.is_ok and op.kind == "read_session" and "messages" in op.told:
            floors.judge(op, op.told["messages"] + len(doomed), "messages", verdict)
        elif op.is_ok and op.kind == "read_history":
            seqs = [row[0] for row in op.told["rows"]]
            newest = max(seqs, default=0)
            floors.judge(op, newest, "message", verdict)
            gaps = set(range(min(seqs, default=1), newest + 1)) - set(seqs) - doomed
            is_page = seqs == sorted(set(seqs), reverse=True) and not gaps
            verdict.demand(is_page, f"{_name(op)} is no page: {seqs[:5]}")
            for seq, digest in op.told["rows"]:
                row = rows.get(seq)
                is_so = row is not None and (row.is_deleted or row.digest == digest)
                verdict.demand(is_so, f"{_name(op)} shows another message {seq} than is stored")


def _spoken(op: Op) -> list[tuple[int, str, str]]:
    """The messages that a write was told to have made."""
    told = op.told.get("messages")
    return told if isinstance(told, list) else []


def _name(op: Op) -> str:
    cache = op.told.get("cache")
    return f"{op.kind} {op.number} of {op.session or op.told.get('id')} by {op.client}{f' ({cache})' if cache else ''}"


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
