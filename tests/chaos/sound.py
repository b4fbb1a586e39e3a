"""A sound history and its evidence, written by hand: what tests of the checker plant their lies into."""

from __future__ import annotations

from dataclasses import replace

from evidence import Arrival, CallRow, Delivery, EventRow, Evidence, FileRow, MessageRow, SessionRow
from history import FAIL, INFO, OK, History, Op, Sent, Watched, digest_of

S = "session"


class Told:
    """A history that is written by hand, on a clock of its own."""

    def __init__(self) -> None:
        self.history = History()
        self._clock = 0.0

    def op(self, kind: str, wish: dict, told: dict, *, outcome: str = OK, client: str = "c0", **more) -> Op:
        """One operation after all others."""
        self._clock += kind != "open"  # that is before all others
        op = Op(len(self.history.ops), client, kind, S, wish, self._clock)
        op.returned, op.outcome, op.told = self._clock + 0.5, outcome, told
        for name, value in more.items():
            setattr(op, name, value)
        self.history.ops.append(op)
        return op


def arrival(event: EventRow) -> Arrival:
    return Arrival(
        event.id, event.session, event.seq, event.type, "body", is_signed=True, at=float(event.seq), data=event.data
    )


def sound() -> tuple[History, Evidence]:
    """A session with three messages, a decided call, a file and a patch; everyone was told of everything."""
    told = Told()
    opened = {"id": S, "version": 1, "digest": "d1", "messages": 0, "state": "active"}
    told.op("open", {"digests": [], "activate": True}, opened, invoked=0.2, returned=0.4)
    contents = ["one", "two", "three"]
    for seq, content in enumerate(contents, start=1):
        told.op("append", {"digests": [digest_of(content)]}, {"messages": [(seq, f"m{seq}", digest_of(content))]})
    told.op("append", {"digests": [digest_of("unknown")]}, {}, outcome=INFO)
    told.op("again", {}, {"is_same": True})
    told.op(
        "patch",
        {"field": "p1", "if_match": 9},
        {"version": 10, "digest": "d10", "messages": 3, "state": "active", "etag": '"10"'},
    )
    told.op("patch", {"field": "p2", "if_match": 9}, {}, outcome=FAIL, status=412, code="version_mismatch")
    suspended = {"messages": 3, "state": "suspended"}
    told.op("move", {"move": "suspend"}, suspended | {"version": 11, "digest": "d11"})
    told.op("append", {"digests": [digest_of("refused")]}, {}, outcome=FAIL, status=409, code="session_not_active")
    told.op("read_session", {}, suspended | {"version": 11, "digest": "d11", "cache": "hit"})
    rows = [(seq, digest_of(content)) for seq, content in enumerate(contents, start=1)][::-1]
    told.op("read_history", {}, {"rows": rows})
    told.op("decide", {"call": "call", "by": "ada", "action": "approve"}, {"became": "approved", "decided_by": "ada"})
    told.op(
        "decide",
        {"call": "call", "by": "bob", "action": "reject"},
        {"became": "approved", "decided_by": "ada"},
        outcome=FAIL,
        status=409,
        code="already_decided",
    )
    told.op("step", {"call": "call", "action": "start"}, {"became": "running"})
    told.op("upload", {"sha256": "sha", "size": 3}, {"id": "file"})
    told.op("download", {"file": "file"}, {"is_same": True})
    told.op("read_event", {"message": "m1"}, {"is_there": True})
    told.op("read_session", {}, suspended | {"version": 15, "digest": "d15"}, client="auditor")
    told.op("read_history", {}, {"rows": rows}, client="auditor")
    told.history.sent += [Sent(1.0, 0.01, 0, "append", 201), Sent(2.0, 0.01, 1, "append", 503, has_retry_after=True)]

    types = ["session.created", "session.activated", *["message.created"] * 3]
    data: list[dict] = [{}, {}, *({"message_id": f"m{seq}"} for seq in (1, 2, 3))]
    call = {"tool_call_id": "call", "decided_by": None}
    types += ["tool_call.requested", "tool_call.approved", "tool_call.started"]
    data += [call | {"status": "pending"}, call | {"status": "approved", "decided_by": "ada"}]
    data += [call | {"status": "running", "decided_by": "ada"}]
    types += ["attachment.uploaded", "attachment.processed", "session.updated", "session.suspended"]
    data += [{"attachment_id": "file", "status": "uploaded"}, {"attachment_id": "file", "status": "ready"}, {}, {}]
    events = [
        EventRow(S, seq, f"e{seq}", type_, own) for seq, (type_, own) in enumerate(zip(types, data, strict=True), 1)
    ]
    evidence = Evidence(
        sessions=[SessionRow(S, "suspended", None, 15, 3, 1, 0, 3, len(events), frozenset({"p1"}))],
        messages=[MessageRow(S, seq, f"m{seq}", digest_of(content)) for seq, content in enumerate(contents, 1)],
        events=events,
        calls=[CallRow(S, "call", "running", "ada")],
        files=[FileRow(S, "file", "ready", "sha", 3)],
        deliveries=[Delivery(event.id, S, event.seq, "succeeded") for event in events],
        arrivals=[arrival(event) for event in events],
        stored={"key": "sha", "key-of-text": "sha-of-text"},
        found={"key": "sha", "key-of-text": "sha-of-text", "unfinished#1": "x"},
        loose={"unfinished"},
        left_over={"events in the outbox": 0},
    )
    evidence.arrivals.append(replace(evidence.arrivals[3], at=99.0))  # sent again
    told.history.watched.append(Watched("stream", S, [(S, event.seq, event.id, 90.0) for event in events], 2))
    told.history.watched.append(Watched("feed", "", [(S, event.seq, event.id, 90.0) for event in events], 3))
    return told.history, evidence


def of(history: History, kind: str, place: int = 0) -> Op:
    return [op for op in history.ops if op.kind == kind][place]


def swap(rows: list, place: int, **changes) -> None:
    rows[place] = replace(rows[place], **changes)


def add(history: History, evidence: Evidence, type_: str, session: str = S, **data) -> None:
    """One event more, of which everyone was told."""
    number = 1 + sum(event.session == session for event in evidence.events)
    event = EventRow(session, number, f"{session} {number}", type_, data)
    evidence.events.append(event)
    evidence.deliveries.append(Delivery(event.id, session, number, "succeeded"))
    evidence.arrivals.append(arrival(event))
    for watched in history.watched:
        if watched.session in {"", session}:
            watched.told.append((session, number, event.id, 90.0))
    evidence.sessions[:] = [replace(row, last_event=number) if row.id == session else row for row in evidence.sessions]


def later(history: History, kind: str, wish: dict, told: dict, **more) -> Op:
    """One operation more, after all others."""
    last = history.ops[-1]
    op = Op(len(history.ops), "c1", kind, S, wish, last.invoked + 1.0, last.invoked + 1.5, OK, 200, "", told)
    for name, value in more.items():
        setattr(op, name, value)
    history.ops.append(op)
    return op
