"""Whether what was acknowledged is there, once and whole: messages, changes, decisions, files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from checks_causes import caused
from evidence import STAGED, Evidence, FileRow
from history import FAIL, INFO, History, Op
from verdicts import Verdict

from service.domain.attachment import INTERRUPTED_TOO_OFTEN

SPEAKING = {"append", "batch", "ask", "open"}
READING = {"read_session", "read_history", "read_event", "download"}
DECISIONS = ("tool_call.approved", "tool_call.rejected", "tool_call.expired")


def acknowledged(history: History, evidence: Evidence) -> Verdict:
    """Invariant 1."""
    verdict = Verdict(
        "1 acknowledged writes",
        "What was acknowledged is there, unchanged; what was refused is not; what is unknown, once or not at all; "
        "and nothing that nobody asked for.",
    )
    _messages(history, evidence, verdict)
    _fields(history, evidence, verdict)
    _ends(history, evidence, verdict)
    _files(history, evidence, verdict)
    caused(history, evidence, verdict)
    writes = [op for op in history.ops if op.kind not in READING]
    repeats = [op for op in writes if op.kind == "again" and op.is_ok]
    for op in repeats:
        verdict.demand(op.told["is_same"], f"the repeat {op.number} of an append was answered otherwise")
    verdict.counts = {
        "acknowledged": sum(op.is_ok for op in writes),
        "refused": sum(op.outcome == FAIL for op in writes),
        "unknown": sum(op.outcome == INFO for op in writes),
        "repeated": len(repeats),
    }
    return verdict


def _messages(history: History, evidence: Evidence, verdict: Verdict) -> None:
    rows = {(row.session, row.seq): row for row in evidence.messages}
    standing = Counter(row.digest for row in evidence.messages if not row.is_deleted)
    said: set[str] = set()
    for op in history.ops:
        if op.kind not in SPEAKING or not (digests := op.wish.get("digests")):
            continue
        said.update(digests)
        if op.is_ok and op.kind != "open":
            verdict.demand([told[2] for told in op.told["messages"]] == digests, f"{_name(op)} was told other content")
            for seq, id_, digest in op.told["messages"]:
                row = rows.get((op.session, seq))
                is_there = row is not None and row.id == id_ and (row.is_deleted or row.digest == digest)
                verdict.demand(is_there, f"lost: message {seq} of {op.session}, acknowledged by {_name(op)}")
        elif op.is_ok:
            row = rows.get((op.told["id"], 1))
            verdict.demand(row is not None and row.digest == digests[0], f"lost: the prompt of {op.told['id']}")
        else:
            there = sum(standing[digest] for digest in digests)
            allowed = {0} if op.outcome == FAIL else {0, len(digests)}
            verdict.demand(there in allowed, f"{_name(op)} is {op.outcome}, and {there} of its messages are there")
    for digest, times in standing.items():
        verdict.demand(times == 1, f"doubled: a message is there {times} times ({digest})")
        verdict.demand(digest in said, f"invented: nobody said the message {digest}")


def _fields(history: History, evidence: Evidence, verdict: Verdict) -> None:
    fields = {row.id: row.fields for row in evidence.sessions}
    for op in history.ops:
        if op.kind != "patch":
            continue
        is_there = op.wish["field"] in fields.get(op.session, frozenset())
        if op.is_ok:
            verdict.demand(is_there, f"lost: the field {op.wish['field']} of {op.session}, acknowledged by {_name(op)}")
        elif op.outcome == FAIL:
            verdict.demand(not is_there, f"the refused {_name(op)} has had an effect")


def _ends(history: History, evidence: Evidence, verdict: Verdict) -> None:
    statuses = {row.id: row.status for row in evidence.sessions}
    for op in history.ops:
        if op.kind == "end" and op.is_ok:
            verdict.demand(statuses.get(op.session) == "ended", f"lost: the end of {op.session}, by {_name(op)}")
        elif op.kind == "open" and op.is_ok:
            verdict.demand(op.told["id"] in statuses, f"lost: the session {op.told['id']}, by {_name(op)}")
    gone = {row.id for row in evidence.messages if row.is_deleted}
    for op in history.ops:
        if op.kind == "delete_message" and op.is_ok:
            verdict.demand(op.wish["message"] in gone, f"lost: the deletion of {op.wish['message']}, by {_name(op)}")


def _files(history: History, evidence: Evidence, verdict: Verdict) -> None:
    rows = {row.id: row for row in evidence.files}
    times = Counter(row.sha256 for row in evidence.files)
    for op in history.ops:
        if op.kind == "upload":
            there = times[op.wish["sha256"]]
            if op.is_ok:
                row = rows.get(op.told["id"])
                is_whole = row is not None and (
                    row.is_deleted or (row.sha256, row.size) == (op.wish["sha256"], op.wish["size"])
                )
                verdict.demand(is_whole, f"lost: the file {op.told['id']}, acknowledged by {_name(op)}")
            most = 0 if op.outcome == FAIL else 1
            verdict.demand(there <= most, f"{_name(op)} is {op.outcome}, and its file is there {there} times")
        elif op.kind == "delete_file" and op.is_ok:
            row = rows.get(op.wish["file"])
            verdict.demand(row is not None and row.is_deleted, f"lost: the deletion of the file {op.wish['file']}")


def decided_once(history: History, evidence: Evidence) -> Verdict:
    """Invariant 5."""
    verdict = Verdict("5 decisions", "Of racing decisions one wins, all hear which; a tool is started once.")
    decided: dict[str, list[tuple[str, str | None]]] = defaultdict(list)
    started: Counter[str] = Counter()
    for event in evidence.events:
        if event.type in DECISIONS:
            decided[event.data["tool_call_id"]].append((event.type.partition(".")[2], event.data.get("decided_by")))
        elif event.type == "tool_call.started":
            started[event.data["tool_call_id"]] += 1
    rows = {row.id: row for row in evidence.calls}
    for call, decisions in decided.items():
        verdict.demand(len(decisions) == 1, f"{call} was decided {len(decisions)} times: {decisions}")
        is_same = call in rows and rows[call].decided_by == decisions[0][1]
        verdict.demand(is_same, f"the row of {call} names another decision than {decisions[0]}")
    starts = [op for op in history.ops if op.kind == "step" and op.wish["action"] == "start"]
    heard = Counter(op.wish["call"] for op in starts if op.is_ok)
    for call, times in [*started.items(), *heard.items()]:
        verdict.demand(times == 1, f"{call} was started {times} times")
    tries = [op for op in history.ops if op.kind == "decide"]
    for op in tries:
        _heard_who_won(op, decided[op.wish["call"]], verdict)
    verdict.counts = {"decided calls": len(decided), "decisions tried": len(tries), "starts tried": len(starts)}
    return verdict


def _heard_who_won(op: Op, decisions: list[tuple[str, str | None]], verdict: Verdict) -> None:
    heard = (op.told.get("became"), op.told.get("decided_by"))
    if op.is_ok or op.code == "already_decided":
        verdict.demand(heard in decisions, f"{_name(op)} heard {heard}, and the events tell {decisions}")
    if op.is_ok:
        verdict.demand(heard[1] == op.wish["by"], f"{_name(op)} won, and was told that {heard[1]} did")


def files_whole(history: History, evidence: Evidence) -> Verdict:
    """Invariant 9."""
    verdict = Verdict(
        "9 files",
        "Every file and all that was made of it has its bytes, downloads are those bytes, no object is unknown.",
    )
    keys = {sha256: key for key, sha256 in evidence.stored.items()}
    ready = [row for row in evidence.files if not row.is_deleted]
    for row in ready:
        is_good = row.status == "ready" or _is_given_up(row)
        verdict.demand(is_good, f"the file {row.id} came to no good end: {row.status}, {row.error}")
        bytes_found = evidence.found.get(keys.get(row.sha256, ""))
        verdict.demand(bytes_found == row.sha256, f"the file {row.id} has not its bytes: {bytes_found}")
    for key, sha256 in evidence.stored.items():
        bytes_found = evidence.found.get(key)
        verdict.demand(bytes_found == sha256, f"the object {key} is missing or damaged: {bytes_found}")
    for key in evidence.found:
        name = re.sub(rf"{STAGED}\d+$", "", key)
        verdict.demand(name in evidence.stored or name in evidence.loose, f"nobody knows the object {key}")
    downloads = [op for op in history.ops if op.kind == "download" and op.is_ok]
    for op in downloads:
        verdict.demand(op.told["is_same"], f"{_name(op)} brought other bytes of {op.wish['file']}")
    verdict.counts = {
        "files": len(ready),
        "given up after three kills": sum(map(_is_given_up, ready)),
        "downloads": len(downloads),
        "objects": len(evidence.found),
    }
    return verdict


def _is_given_up(row: FileRow) -> bool:
    """Whoever was killed three times while it held the same file is promised to leave it alone, until it is retried."""
    return row.status == "failed" and row.error == INTERRUPTED_TOO_OFTEN


def _name(op: Op) -> str:
    return f"{op.kind} {op.number} of {op.client}"
