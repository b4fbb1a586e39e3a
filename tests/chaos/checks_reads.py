"""Whether reads were fresh: never older than what anyone had been told before, on any route, at any process.

A session's version counts its changes, so the answers about it can be in one order only, that of their versions.

Told are answers to writes, and events: nothing may be read that is older than those. An answer that names no version
tells of one nevertheless: each change makes one more of what had been told before it began. A change that nobody has
been told of, because its writer was killed, may be read already in one place and not yet in another: such steps back
are counted, are allowed only beside a change without an answer, and must be over within a minute.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence

from evidence import Evidence
from history import FAIL, History, Op
from verdicts import Verdict

AUDITOR = "auditor"
"""Who reads when all is quiet."""

READS = {"read_session", "read_history"}
STEP_BACK_SECONDS_MAX = 60.0
"""Longer than any copy lives."""

PAGE = 50
"""What a page holds of which nobody has said how long it is to be."""

STALE, BACK = "stale", "steps back"

VERSIONED = {
    "append",
    "batch",
    "ask",
    "open",
    "patch",
    "move",
    "decide",
    "step",
    "upload",
    "delete_message",
    "delete_file",
}
"""Operations that make another version of their session whenever they are acknowledged."""


class Floor:
    """The most that anyone had been told at a time."""

    def __init__(self, told: Iterable[tuple[float, int]] = ()) -> None:
        self._times: list[float] = []
        self._most: list[int] = []
        for at, value in sorted(told):
            self.add(at, value)

    def add(self, at: float, value: int) -> None:
        """Something was told, after all that was added before."""
        self._times.append(at)
        self._most.append(max(value, self._most[-1] if self._most else 0))

    def at(self, moment: float) -> int:
        place = bisect_right(self._times, moment)
        return self._most[place - 1] if place else 0


class Floors:
    """What writes and events had told, and what reads had."""

    def __init__(
        self, told: Iterable[tuple[float, int]], read: Iterable[tuple[float, int]], changes: Sequence[Op]
    ) -> None:
        told, read = list(told), list(read)
        self._changes = changes
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
            is_beside = any(change.invoked <= op.invoked < change.ended for change in self._changes)
            verdict.demand(is_beside, f"a step back: {_name(op)} shows {what} {shown}, and no change was unanswered")


def fresh(history: History, evidence: Evidence) -> Verdict:
    """Invariant 8."""
    verdict = Verdict(
        "8 fresh reads",
        "No read is older than what a write's answer or an event had told; none is older than another read had shown, "
        "but beside a change whose answer was still to come; what was deleted is shown no more; "
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
    # In the end each session is read twice at each process, one time after the other: on the slowest machine, too.
    verdict.demand(
        verdict.counts["cache hits"] or not (reads and evidence.has_cache),
        "no read was answered by a copy: nothing was shown of them",
    )
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
        _versions_told(ops),
        [(op.ended, op.told["version"]) for op in seen if op.kind in READS],
        _changes(ops),
    )
    looks: dict[int, str] = {}
    states = {op.told["version"]: op.told["state"] for op in seen if "state" in op.told}
    over = min((op.ended for op in ops if op.kind == "end" and op.is_ok), default=float("inf"))
    for op in seen:
        version = op.told["version"]
        if op.kind in READS:
            floors.judge(op, version, "version", verdict)
            is_so = op.invoked < over or states.get(version, "ended") == "ended"
            verdict.demand(is_so, f"stale: {_name(op)} shows a session that had ended as {states.get(version)}")
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


def _versions_told(ops: list[Op]) -> list[tuple[float, int]]:
    """Of which version, at the least, each answer told whoever heard it."""
    told, known = [], Floor()
    for op in sorted((one for one in ops if one.is_ok), key=lambda one: one.ended):
        version = op.told.get("version") or 0
        if op.kind in VERSIONED:
            version = max(version, known.at(op.invoked) + 1)
            told.append((op.ended, version))
        known.add(op.ended, version)
    return told


def _changes(ops: list[Op]) -> list[Op]:
    """What may have changed a session."""
    return [op for op in ops if op.kind in VERSIONED | {"end"} and op.outcome != FAIL]


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
    deletions = [(ids.get(op.wish["message"], 0), op) for op in _changes(ops) if op.kind == "delete_message"]
    doomed = {seq for seq, _ in deletions}
    told = [(op.ended, message[0]) for op in ops if op.is_ok and op.kind not in READS for message in _spoken(op)]
    read = [(op.ended, row[0]) for op in ops if op.is_ok and op.kind == "read_history" for row in op.told["rows"]]
    floors = Floors(
        [(at, seq) for at, seq in [*told, *events] if seq not in doomed],
        [(at, seq) for at, seq in read if seq not in doomed],
        _changes(ops),
    )
    for op in ops:
        if op.is_ok and op.kind == "read_session" and "messages" in op.told:
            floors.judge(op, op.told["messages"] + len(doomed), "messages", verdict)
        elif op.is_ok and op.kind == "read_history":
            seqs = [row[0] for row in op.told["rows"]]
            newest = max(seqs, default=0)
            floors.judge(op, newest, "message", verdict)
            # It may lack what somebody had begun to delete; it must lack what was gone before it was asked for.
            fading = {seq for seq, deletion in deletions if deletion.invoked < op.ended}
            gone = {seq for seq, deletion in deletions if deletion.is_ok and deletion.ended < op.invoked}
            gaps = set(range(min(seqs, default=1), newest + 1)) - set(seqs) - fading
            is_page = seqs == sorted(set(seqs), reverse=True) and not gaps
            verdict.demand(is_page, f"{_name(op)} is no page: {seqs[:5]}")
            shown = sorted(gone & set(seqs))
            verdict.demand(not shown, f"stale: {_name(op)} shows messages {shown[:5]} that had been deleted")
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
    standing: dict[str, list[int]] = defaultdict(list)
    for row in sorted(evidence.messages, key=lambda row: -row.seq):
        if not row.is_deleted:
            standing[row.session].append(row.seq)
    for op in reads:
        if op.client != AUDITOR or op.session not in stored:
            continue
        if op.kind == "read_session":
            shown, held = [op.told["version"]], [stored[op.session].version]
        else:
            shown, held = [row[0] for row in op.told["rows"]], standing[op.session][:PAGE]
        is_so = shown == held
        verdict.demand(is_so, f"in the end, {op.kind} {op.number} shows {shown[:5]} of {op.session}, not {held[:5]}")
