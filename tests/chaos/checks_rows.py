"""Whether the rows agree with one another: numbers, events, lives; and whether nothing is left over."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby

from evidence import Evidence
from history import History
from invariants import folded
from verdicts import Verdict

ENDS = {"session.ended", "session.expired"}
OUTCOMES = {"ready", "failed"}
"""What a file becomes, once: nobody here asks for another try."""


def gapless(_history: History, evidence: Evidence) -> Verdict:
    """Invariant 2."""
    verdict = Verdict(
        "2 numbers", "Messages and events are numbered 1, 2, 3 … in each session; each change has one event."
    )
    messages, events = defaultdict(list), defaultdict(list)
    for row in evidence.messages:
        messages[row.session].append(row.seq)
    for row in evidence.events:
        events[row.session].append(row.seq)
    for session in evidence.sessions:
        for what, numbers, last in (
            ("messages", messages[session.id], session.last_message),
            ("events", events[session.id], session.last_event),
        ):
            is_gapless = sorted(numbers) == list(range(1, last + 1))
            verdict.demand(is_gapless, f"{session.id}: {len(numbers)} {what}, numbered other than 1 to {last}")
    told = Counter(row.data.get("message_id") for row in evidence.events if row.type == "message.created")
    for row in evidence.messages:
        verdict.demand(told.pop(row.id, 0) == 1, f"message {row.seq} of {row.session} has not one event")
    verdict.demand(not told, f"events tell of messages that are not there: {list(told)[:3]}")
    for type_, known in (
        ("tool_call.requested", {row.id for row in evidence.calls}),
        ("attachment.uploaded", {row.id for row in evidence.files}),
    ):
        name = "tool_call_id" if type_.startswith("tool") else "attachment_id"
        asked = Counter(row.data[name] for row in evidence.events if row.type == type_)
        verdict.demand(asked == Counter(known), f"{type_} was not told once of each: {len(asked)} of {len(known)}")
    _told_once(evidence, verdict)
    verdict.violations += evidence.broken_rules
    verdict.counts = {
        "sessions": len(evidence.sessions),
        "messages": len(evidence.messages),
        "events": len(evidence.events),
    }
    return verdict


def _told_once(evidence: Evidence, verdict: Verdict) -> None:
    """Whatever can happen to a thing once is told once, and only of what it has happened to."""
    told = Counter((row.type, row.data.get("attachment_id") or row.data.get("message_id")) for row in evidence.events)
    for message in evidence.messages:
        times = told["message.deleted", message.id]
        is_told = message.is_deleted and not message.is_silent
        verdict.demand(times == is_told, f"the deletion of {message.id} was told {times} times")
    for file in evidence.files:
        times = told["attachment.processed", file.id] + told["attachment.failed", file.id]
        verdict.demand(times == (file.status in OUTCOMES), f"what became of {file.id} was told {times} times")
        times = told["attachment.deleted", file.id]
        verdict.demand(
            times == (file.is_deleted and not file.is_silent),
            f"the deletion of the file {file.id} was told {times} times",
        )
    in_session = Counter((row.session, row.type) for row in evidence.events)
    for session in evidence.sessions:
        times = in_session[session.id, "session.created"]
        verdict.demand(times == 1, f"the opening of {session.id} was told {times} times")
        # Each patch of these clients adds a field of its own, and one that is sent again finds it there.
        times, fields = in_session[session.id, "session.updated"], len(session.fields)
        verdict.demand(times == fields, f"{session.id} has {fields} fields, and {times} session.updated tell")
    calls = Counter(
        (row.data["tool_call_id"], row.type) for row in evidence.events if row.type.startswith("tool_call.")
    )
    for (call, type_), times in calls.items():
        verdict.demand(times == 1, f"{type_} of {call} was told {times} times")


def fold_is_state(_history: History, evidence: Evidence) -> Verdict:
    """Invariant 3."""
    verdict = Verdict("3 events tell the state", "Whoever folds the events has the rows.")
    stories = _stories(evidence)
    calls: dict[str, dict[str, object]] = {}
    files: dict[str, str] = {}
    for story in stories.values():
        for event in story:
            if event.type.startswith("tool_call."):
                calls[event.data["tool_call_id"]] = event.data
            elif event.type.startswith("attachment."):
                files[event.data["attachment_id"]] = str(event.data.get("status") or event.type.partition(".")[2])
    silent = Counter((row.session, "message") for row in evidence.messages if row.is_silent)
    silent.update((row.session, "file") for row in evidence.files if row.is_silent)
    for session in evidence.sessions:
        types = [event.type for event in stories.get(session.id, [])]
        told, count = folded(types), Counter(types)
        stands = session.status if session.end_reason is None else f"{session.status}, {session.end_reason}"
        verdict.demand(told == stands, f"{session.id} is {stands}, and its events tell {told}")
        folds = (
            count["message.created"] - count["message.deleted"] - silent[session.id, "message"],
            count["attachment.uploaded"] - count["attachment.deleted"] - silent[session.id, "file"],
        )
        counted = (session.message_count, session.attachment_count)
        verdict.demand(folds == counted, f"{session.id} counts {counted} messages and files; the events tell {folds}")
    pending = Counter(row.session for row in evidence.calls if row.status == "pending")
    for session in evidence.sessions:
        verdict.demand(pending[session.id] == session.pending, f"{session.id} counts {session.pending} pending calls")
    for call in evidence.calls:
        data = calls.get(call.id, {})
        is_told = (data.get("status"), data.get("decided_by")) == (call.status, call.decided_by)
        verdict.demand(is_told, f"the call {call.id} is {call.status}, and its events tell {data.get('status')}")
    for file in evidence.files:
        status = "deleted" if file.is_deleted and not file.is_silent else file.status
        verdict.demand(files.get(file.id) == status, f"the file {file.id} is {status}; told: {files.get(file.id)}")
    verdict.counts = {
        "sessions": len(evidence.sessions),
        "calls": len(evidence.calls),
        "files": len(evidence.files),
    }
    return verdict


def lives_are_possible(_history: History, evidence: Evidence) -> Verdict:
    """Invariant 4."""
    verdict = Verdict("4 lives", "No session does what its diagram lacks, and none anything after its end.")
    stories = _stories(evidence)
    for session, story in stories.items():
        types = [event.type for event in story]
        told = folded(types)
        verdict.demand(not told.startswith("impossible"), f"{session}: {told}")
        after = next((types[place + 1 :] for place, type_ in enumerate(types) if type_ in ENDS), [])
        verdict.demand(not after, f"{session} went on after its end: {after[:3]}")
    verdict.counts = {
        "lives": len(stories),
        "ended": sum(any(event.type in ENDS for event in story) for story in stories.values()),
    }
    return verdict


def _stories(evidence: Evidence):
    ordered = sorted(evidence.events, key=lambda event: (event.session, event.seq))
    return {session: list(story) for session, story in groupby(ordered, key=lambda event: event.session)}


def nothing_left_over(_history: History, evidence: Evidence) -> Verdict:
    """Invariant 10."""
    verdict = Verdict(
        "10 nothing left over", "When all is quiet, nothing waits, nothing is held, nothing is unfinished."
    )
    for what, count in evidence.left_over.items():
        verdict.demand(count == 0, f"left over: {count} {what}")
    verdict.counts = {"kinds looked at": len(evidence.left_over)}
    return verdict


def parts_lived(_history: History, evidence: Evidence) -> Verdict:
    """Nothing needed a restart but what was killed."""
    verdict = Verdict("12 parts", "No process ended because another one did, and each stopped when it was asked to.")
    verdict.violations += evidence.misbehaved
    return verdict


ALLOWED = {
    (409, "request_in_progress"),
    (409, "session_not_active"),
    (409, "session_ended"),
    (409, "invalid_transition"),
    (409, "already_decided"),
    (412, "version_mismatch"),
}
"""What these clients provoke. Anything else, above all a 404 for what they made, is a fault."""

UNAVAILABLE = 503


def answers_polite(history: History, _evidence: Evidence) -> Verdict:
    """Every answer is one that the contract allows."""
    verdict = Verdict("11 answers", "No 500, 501 or 502; every 503 says when to come back; no refusal out of place.")
    counted = Counter((sent.status, sent.code, sent.has_retry_after, sent.kind) for sent in history.sent)
    for (status, code, has_retry_after, kind), times in counted.items():
        if status == UNAVAILABLE:
            verdict.demand(has_retry_after, f"{times} 503s without Retry-After, for {kind}")
        elif status >= 400:
            verdict.demand((status, code) in ALLOWED, f"{times} answers of {status} {code}, for {kind}")
    statuses = Counter(sent.status for sent in history.sent)
    verdict.counts = {
        "requests": len(history.sent),
        "answers of 503": statuses[UNAVAILABLE],
        "without answer": statuses[0],
    }
    return verdict
