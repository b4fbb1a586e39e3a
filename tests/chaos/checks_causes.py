"""Whether somebody asked for all that there is: nothing was opened, moved, ended, deleted or refused by nobody.

An operation whose outcome nobody knows may have been the one: it counts as possible, and never as certain.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from evidence import Evidence
from history import FAIL, OK, History, Op
from verdicts import Verdict

MOVED = {"activate": "session.activated", "suspend": "session.suspended", "resume": "session.resumed"}
DECIDED = {"approve": "tool_call.approved", "reject": "tool_call.rejected"}
STEPPED = {"start": "tool_call.started", "complete": "tool_call.completed"}

ENDED, NOT_ACTIVE = "session_ended", "session_not_active"


def caused(history: History, evidence: Evidence, verdict: Verdict) -> None:
    """Hold everything against the operations that may have made it."""
    possible: dict[str, list[Op]] = defaultdict(list)
    for op in history.ops:
        if op.outcome != FAIL:
            possible[op.kind].append(op)
    _opened(possible["open"], evidence, verdict)
    _moved(possible, evidence, verdict)
    _ended(possible["end"], evidence, verdict)
    _deleted(possible, evidence, verdict)
    _brought(possible, evidence, verdict)
    _decided(possible, evidence, verdict)
    _refused(history, possible, verdict)


def _opened(opens: list[Op], evidence: Evidence, verdict: Verdict) -> None:
    told = Counter(op.told["id"] for op in opens if op.is_ok)
    verdict.demand(max(told.values(), default=1) == 1, f"one session was told to two who opened: {told.most_common(1)}")
    untold = [row.id for row in evidence.sessions if row.id not in told]
    most = sum(not op.is_ok for op in opens)
    verdict.demand(
        len(untold) <= most, f"{len(untold)} sessions were told to nobody, of {most} whose opening is unknown"
    )


def _moved(possible: dict[str, list[Op]], evidence: Evidence, verdict: Verdict) -> None:
    told = Counter((row.session, row.type) for row in evidence.events if row.type in MOVED.values())
    sure: Counter[tuple[str, str]] = Counter()
    perhaps: Counter[tuple[str, str]] = Counter()
    for op in possible["move"]:
        moved = (op.session, MOVED[op.wish["move"]])
        sure[moved] += op.is_ok
        perhaps[moved] += 1
    opened = {op.told["id"]: op.wish["activate"] for op in possible["open"] if op.is_ok}
    for row in evidence.sessions:
        activated = (row.id, MOVED["activate"])
        sure[activated] += opened.get(row.id, False)
        perhaps[activated] += opened.get(row.id, True)
    for session, type_ in {*told, *perhaps}:
        times, least, most = (counter[session, type_] for counter in (told, sure, perhaps))
        verdict.demand(least <= times <= most, f"{session} was moved {least} to {most} times, and {times} {type_} tell")


def _ended(ends: list[Op], evidence: Evidence, verdict: Verdict) -> None:
    by_somebody = {op.session for op in ends}
    for row in evidence.sessions:
        # No run lasts so long that the time of a session is over.
        verdict.demand(row.status != "ended" or row.id in by_somebody, f"{row.id} was ended by nobody")


def _deleted(possible: dict[str, list[Op]], evidence: Evidence, verdict: Verdict) -> None:
    messages = {op.wish["message"] for op in possible["delete_message"]}
    files = {op.wish["file"] for op in possible["delete_file"]}
    for message in evidence.messages:
        verdict.demand(not message.is_deleted or message.id in messages, f"nobody deleted the message {message.id}")
    for file in evidence.files:
        verdict.demand(not file.is_deleted or file.id in files, f"nobody deleted the file {file.id}")


def _brought(possible: dict[str, list[Op]], evidence: Evidence, verdict: Verdict) -> None:
    digests = {op.wish["sha256"] for op in possible["upload"]}
    for file in evidence.files:
        verdict.demand(file.is_deleted or file.sha256 in digests, f"nobody brought the file {file.id}")
    fields = {(op.session, op.wish["field"]) for op in possible["patch"]}
    for session in evidence.sessions:
        strange = [name for name in sorted(session.fields) if (session.id, name) not in fields]
        verdict.demand(not strange, f"nobody gave {session.id} the fields {strange[:3]}")


def _decided(possible: dict[str, list[Op]], evidence: Evidence, verdict: Verdict) -> None:
    decided = {(op.wish["call"], DECIDED[op.wish["action"]], op.wish["by"]) for op in possible["decide"]}
    stepped = {(op.wish["call"], STEPPED[op.wish["action"]]) for op in possible["step"]}
    for row in evidence.events:
        call = row.data.get("tool_call_id", "")
        if row.type in DECIDED.values():
            is_known = (call, row.type, row.data.get("decided_by")) in decided
            verdict.demand(is_known, f"{row.type} of {call}: {row.data.get('decided_by')} did not ask for it")
        elif row.type in STEPPED.values():
            verdict.demand((call, row.type) in stepped, f"{row.type} of {call}: nobody asked for it")


def _refused(history: History, possible: dict[str, list[Op]], verdict: Verdict) -> None:
    """Who hears that a session has ended, or is not active, hears it after somebody may have made it so."""
    ended: dict[str, float] = {}
    for op in possible["end"]:
        ended[op.session] = min(op.invoked, ended.get(op.session, op.invoked))
    idle = dict(ended)
    for op in [one for one in possible["move"] if one.wish["move"] == "suspend"]:
        idle[op.session] = min(op.invoked, idle.get(op.session, op.invoked))
    idle |= {op.told["id"]: op.invoked for op in possible["open"] if op.outcome == OK and not op.wish["activate"]}
    for op in history.ops:
        if op.code not in {ENDED, NOT_ACTIVE} or op.returned is None:
            continue
        since = (ended if op.code == ENDED else idle).get(op.session, float("inf"))
        verdict.demand(
            since < op.returned, f"{op.kind} {op.number} of {op.client} heard {op.code} of {op.session}, not so"
        )
