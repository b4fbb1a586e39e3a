"""The checker of `make chaos`: a sound history passes, and every kind of lie is found by the check that it breaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from evidence import Arrival, EventRow, Evidence, FileRow, MessageRow, SessionRow
from history import FAIL, INFO, OK, History, Sent, digest_of
from judging import judge
from sound import S, add, later, of, sound, swap

LOST, TWICE, NEVER = digest_of("lost"), digest_of("twice"), digest_of("never said")


def deleted_after_read(history: History, evidence: Evidence) -> None:
    """A page that lacks a message which nobody has deleted."""
    del of(history, "read_history").told["rows"][1]


def told_less(history: History, evidence: Evidence) -> None:
    """A patch without its event; all that came after is numbered as if there had never been one."""
    evidence.events[:] = [row for row in evidence.events if row.type != "session.updated"]
    swap(evidence.events, -1, seq=11)
    swap(evidence.sessions, 0, last_event=11)


def ended(history: History, evidence: Evidence) -> None:
    """Its end, of which everyone was told."""
    add(history, evidence, "session.ended")
    swap(evidence.sessions, 0, status="ended", end_reason="requested", version=16)


def shown_after_its_end(history: History, evidence: Evidence) -> None:
    """A read that shows a session as it was, though its end was acknowledged."""
    ended(history, evidence)
    look = of(history, "read_session", 1).told
    later(history, "end", {}, {})
    later(history, "read_session", {}, dict(look))


def deleted(history: History, evidence: Evidence) -> None:
    """The last message is gone, and everyone was told."""
    swap(evidence.messages, 2, is_deleted=True, digest=digest_of(""))
    swap(evidence.sessions, 0, message_count=2, version=16)
    add(history, evidence, "message.deleted", message_id="m3")


def shown_after_its_deletion(history: History, evidence: Evidence) -> None:
    """A page that shows a message, though its deletion was acknowledged."""
    page = of(history, "read_history").told
    deleted(history, evidence)
    later(history, "delete_message", {"message": "m3"}, {})
    later(history, "read_history", {}, page)


def opened_twice(history: History, evidence: Evidence) -> None:
    """Two sessions of one opening: it was sent twice, and answered once."""
    opening = later(history, "open", {"digests": [], "activate": False}, {"id": "a", "version": 1, "digest": "a"})
    for session in (opening.told["id"], "b"):
        evidence.sessions.append(SessionRow(session, "created", None, 1, 0, 0, 0, 0, 1))
        add(history, evidence, "session.created", session)


def acknowledged_before(history: History, kind: str, wish: dict) -> None:
    """A change whose answer named no version, and a read behind it that shows the version of before."""
    look = of(history, "read_session", 1).told
    later(history, kind, wish, {})
    later(history, "read_session", {}, dict(look))


Lie = Callable[[History, Evidence], object]

LIES: dict[str, tuple[str, Lie]] = {
    "an acknowledged message is missing": ("1", lambda _h, e: e.messages.pop()),
    "an acknowledged message has other content": ("1", lambda _h, e: swap(e.messages, 1, digest=LOST)),
    "an acknowledged message has another id": ("1", lambda _h, e: swap(e.messages, 1, id="m9")),
    "a message is there twice": ("1", lambda _h, e: e.messages.append(MessageRow(S, 4, "m4", digest_of("one")))),
    "a refused message is there": ("1", lambda _h, e: e.messages.append(MessageRow(S, 4, "m4", digest_of("refused")))),
    "an unknown message is there twice": (
        "1",
        lambda _h, e: e.messages.extend(MessageRow(S, n, f"m{n}", digest_of("unknown")) for n in (4, 5)),
    ),
    "a message is there that nobody said": ("1", lambda _h, e: e.messages.append(MessageRow(S, 4, "m4", NEVER))),
    "an append was told other content": (
        "1",
        lambda h, _e: of(h, "append").told.update(messages=[(1, "m1", TWICE)]),
    ),
    "a batch is there by half": (
        "1",
        lambda h, e: (
            of(h, "append", 3).wish["digests"].append(digest_of("other half")),
            e.messages.append(MessageRow(S, 4, "m4", digest_of("unknown"))),
        ),
    ),
    "a repeat was answered otherwise": ("1", lambda h, _e: of(h, "again").told.update(is_same=False)),
    "an acknowledged patch is lost": ("1", lambda _h, e: swap(e.sessions, 0, fields=frozenset())),
    "a refused patch had an effect": ("1", lambda _h, e: swap(e.sessions, 0, fields=frozenset({"p1", "p2"}))),
    "an acknowledged move is not told": ("1", lambda _h, e: swap(e.events, 11, type="session.updated")),
    "a move happened twice": ("1", lambda _h, e: e.events.append(EventRow(S, 13, "e13", "session.suspended"))),
    "an acknowledged file is missing": ("1", lambda _h, e: e.files.pop()),
    "a file is there twice": ("1", lambda _h, e: e.files.append(FileRow(S, "file2", "ready", "sha", 3))),
    "an acknowledged end did not happen": ("1", lambda h, _e: setattr(of(h, "again"), "kind", "end")),
    "a number of a message is missing": ("2", lambda _h, e: swap(e.messages, 1, seq=5)),
    "a number of an event is given twice": ("2", lambda _h, e: swap(e.events, 4, seq=4)),
    "a session counts more events than there are": ("2", lambda _h, e: swap(e.sessions, 0, last_event=13)),
    "a message has no event": ("2", lambda _h, e: swap(e.events, 3, type="session.updated")),
    "a message has two events": ("2", lambda _h, e: swap(e.events, 4, data={"message_id": "m1"})),
    "a file has no event": ("2", lambda _h, e: swap(e.events, 8, type="session.updated")),
    "the database breaks a rule": ("2", lambda _h, e: e.broken_rules.append("not so: a rule")),
    "events tell another status": ("3", lambda _h, e: swap(e.sessions, 0, status="active")),
    "a session miscounts its messages": ("3", lambda _h, e: swap(e.sessions, 0, message_count=2)),
    "a session miscounts what is pending": ("3", lambda _h, e: swap(e.sessions, 0, pending=1)),
    "events tell another status of a call": ("3", lambda _h, e: swap(e.calls, 0, status="completed")),
    "a file failed for another reason": ("9", lambda _h, e: swap(e.files, 0, status="failed", error="damaged")),
    "events tell another status of a file": ("3", lambda _h, e: swap(e.files, 0, status="failed")),
    "an impossible move": ("4", lambda _h, e: swap(e.events, 11, type="session.resumed")),
    "a message after the end": ("4", lambda _h, e: swap(e.events, 1, type="session.ended")),
    "two decisions": (
        "5",
        lambda _h, e: swap(e.events, 10, type="tool_call.rejected", data={"tool_call_id": "call", "decided_by": "bob"}),
    ),
    "two starts": ("5", lambda _h, e: swap(e.events, 10, type="tool_call.started", data={"tool_call_id": "call"})),
    "two who won": (
        "5",
        lambda h, _e: (
            setattr(of(h, "decide", 1), "outcome", OK),
            of(h, "decide", 1).told.update(became="rejected", decided_by="bob"),
        ),
    ),
    "a loser was told of another winner": ("5", lambda h, _e: of(h, "decide", 1).told.update(decided_by="cyd")),
    "two runtimes started a tool": (
        "5",
        lambda h, _e: h.ops.append(replace(of(h, "step"))),
    ),
    "the row names another decision": ("5", lambda _h, e: swap(e.calls, 0, decided_by="bob")),
    "an event never arrived": ("6", lambda _h, e: e.arrivals.pop(5)),
    "a delivery failed": ("6", lambda _h, e: swap(e.deliveries, 2, status="failed")),
    "a delivery was never made": ("6", lambda _h, e: e.deliveries.pop()),
    "a repeat came in other bytes": ("6", lambda _h, e: swap(e.arrivals, -1, digest="other")),
    "a request was not signed": ("6", lambda _h, e: swap(e.arrivals, 4, is_signed=False)),
    "what is no event arrived": (
        "6",
        lambda _h, e: e.arrivals.append(Arrival("x", S, 13, "t", "b", is_signed=True, at=50.0)),
    ),
    "deliveries came out of order": ("7", lambda _h, e: swap(e.arrivals, 4, at=8.5)),
    "a session was read as it was": (
        "8",
        lambda h, _e: of(h, "read_session").told.update(version=10, digest="d10"),
    ),
    "a move answered with a version that was given": ("8", lambda h, _e: of(h, "move").told.update(version=10)),
    "a version has two looks": (
        "8",
        lambda h, _e: of(h, "read_session").told.update(digest="torn"),
    ),
    "a patch skipped a version": ("8", lambda h, _e: of(h, "patch").told.update(version=11, digest="d11")),
    "a patch was refused without a reason": ("8", lambda h, _e: of(h, "patch", 1).wish.update(if_match=15)),
    "a session counts fewer messages than were told": (
        "8",
        lambda h, _e: of(h, "read_session").told.update(messages=2),
    ),
    "a page lacks a message that an event had told of": (
        "8",
        lambda h, _e: h.ops.append(
            replace(of(h, "read_history"), invoked=95.0, returned=95.1, told={"rows": [(1, digest_of("one"))]})
        ),
    ),
    "a page ends too early": ("8", lambda h, _e: of(h, "read_history").told["rows"].pop(0)),
    "a page has a hole": ("8", deleted_after_read),
    "a page shows another message": (
        "8",
        lambda h, _e: of(h, "read_history").told["rows"].__setitem__(0, (3, NEVER)),
    ),
    "a cache is wrong in the end": ("8", lambda _h, e: swap(e.sessions, 0, version=16)),
    "a ready file has no bytes": ("9", lambda _h, e: e.found.pop("key")),
    "a ready file has other bytes": ("9", lambda _h, e: e.found.update(key="other")),
    "a file never came to its end": ("9", lambda _h, e: swap(e.files, 0, status="processing")),
    "a download brought other bytes": ("9", lambda h, _e: of(h, "download").told.update(is_same=False)),
    "nobody knows an object": ("9", lambda _h, e: e.found.update(stray="x")),
    "an event waits for ever": ("10", lambda _h, e: e.left_over.update({"events in the outbox": 1})),
    "a 500, be it a text at a stop": ("11", lambda h, _e: h.sent.append(Sent(3.0, 0.1, 0, "wait", 500))),
    "a 503 that does not say when to come back": ("11", lambda h, _e: h.sent.append(Sent(3.0, 0.1, 0, "append", 503))),
    "a session that was not found": (
        "11",
        lambda h, _e: h.sent.append(Sent(3.0, 0.1, 0, "read_session", 404, "session_not_found")),
    ),
    "a process ended by itself": ("12", lambda _h, e: e.misbehaved.append("web0 ended by itself")),
    "a stream skipped an event": ("13", lambda h, _e: h.watched[0].told.pop(4)),
    "a stream told an event twice": ("13", lambda h, _e: h.watched[0].told.insert(4, h.watched[0].told[3])),
    "a stream told events out of order": ("13", lambda h, _e: h.watched[1].told.reverse()),
    "a stream told of what was not there": ("13", lambda h, _e: of(h, "read_event").told.update(is_there=False)),
    "a stream told of another event": ("13", lambda h, _e: h.watched[0].told.__setitem__(0, (S, 1, "other", 90.0))),
    "a session ended by itself": ("1", ended),
    "a message was deleted by itself": ("1", deleted),
    "a file was deleted by itself": ("1", lambda _h, e: swap(e.files, 0, is_deleted=True)),
    "a file came from nowhere": ("1", lambda _h, e: e.files.append(FileRow(S, "file2", "ready", "other", 3))),
    "a field came from nowhere": ("1", lambda _h, e: swap(e.sessions, 0, fields=frozenset({"p1", "p9"}))),
    "a session moved by itself": ("1", lambda h, e: add(h, e, "session.resumed")),
    "one opening made two sessions": ("1", opened_twice),
    "a call was decided by itself": ("1", lambda h, _e: of(h, "decide").wish.update(action="reject")),
    "a tool was started by itself": ("1", lambda h, _e: setattr(of(h, "step"), "outcome", FAIL)),
    "a session was said to have ended": ("1", lambda h, _e: setattr(of(h, "append", 4), "code", "session_ended")),
    "a session was said not to be active": (
        "1",
        lambda h, _e: later(h, "append", {"digests": []}, {}, outcome=FAIL, code="session_not_active", returned=1.0),
    ),
    "a patch has no event": ("2", told_less),
    "a file was understood twice": (
        "2",
        lambda h, e: add(h, e, "attachment.processed", attachment_id="file", status="ready"),
    ),
    "the deletion of a message is not told": ("2", lambda _h, e: swap(e.messages, 2, is_deleted=True)),
    "a session was opened twice": ("2", lambda h, e: add(h, e, "session.created")),
    "a step was told twice": ("2", lambda h, e: add(h, e, "tool_call.started", tool_call_id="call")),
    "a webhook told of another type": ("6", lambda _h, e: swap(e.arrivals, 4, type="session.ended")),
    "a webhook told of another session": ("6", lambda _h, e: swap(e.arrivals, 4, session="other")),
    "a webhook told of another number": ("6", lambda _h, e: swap(e.arrivals, 4, seq=6)),
    "a webhook told of another content": ("6", lambda _h, e: swap(e.arrivals, 4, data={"message_id": "m1"})),
    "a session was read as if it had not ended": ("8", shown_after_its_end),
    "a page shows a message that was deleted": ("8", shown_after_its_deletion),
    "a session was read as before an append": ("8", lambda h, _e: acknowledged_before(h, "append", {"digests": []})),
    "a session was read as before an upload": ("8", lambda h, _e: acknowledged_before(h, "delete_file", {"file": "f"})),
    "a read went back, and nothing had changed": (
        "8",
        lambda h, _e: h.ops.append(replace(of(h, "read_session"), invoked=31.0, returned=31.1)),
    ),
    "no read was answered by a copy": ("8", lambda h, _e: of(h, "read_session").told.update(cache="miss")),
    "a cached page lacks a message in the end": ("8", lambda h, _e: of(h, "read_history", 1).told["rows"].pop()),
    "what was made of a file is missing": ("9", lambda _h, e: e.found.pop("key-of-text")),
    "what was made of a file has other bytes": ("9", lambda _h, e: e.found.update({"key-of-text": "other"})),
}
"""What is false, the number of the promise that it breaks, and how it is planted into what is sound."""


def broken(history: History, evidence: Evidence) -> dict[str, list[str]]:
    """The numbers of the promises that the checker finds broken, and what it says."""
    return {one.name.split()[0]: one.violations for one in judge(history, evidence) if one.violations}


def test_a_sound_history_passes_every_check():
    assert broken(*sound()) == {}


@pytest.mark.parametrize(("number", "plant"), LIES.values(), ids=LIES.keys())
def test_a_lie_is_found_by_the_check_that_it_breaks(number: str, plant: Lie):
    history, evidence = sound()
    plant(history, evidence)

    assert number in broken(history, evidence)


def test_every_promise_has_lies_that_break_it():
    names = {verdict.name.split()[0] for verdict in judge(*sound())}

    assert {number for number, _ in LIES.values()} == names


def test_a_read_beside_a_write_may_see_either():
    history, evidence = sound()
    read, move = of(history, "read_session"), of(history, "move")
    read.invoked = move.invoked - 0.1
    read.told |= {"version": 10, "digest": "d10"}

    assert broken(history, evidence) == {}


def test_without_a_cache_no_read_need_be_answered_by_a_copy():
    history, evidence = sound()
    of(history, "read_session").told.update(cache="bypass")
    evidence.has_cache = False

    assert broken(history, evidence) == {}


def test_a_deletion_whose_repeat_was_refused_may_have_happened():
    history, evidence = sound()
    deleted(history, evidence)
    look, page = of(history, "read_session", 1), of(history, "read_history", 1)
    later(history, "delete_message", {"message": "m3"}, {}, outcome=INFO, status=409, invoked=look.invoked - 0.5)
    look.told |= {"version": 16, "digest": "d16", "messages": 2}
    page.told = {"rows": page.told["rows"][1:]}

    assert broken(history, evidence) == {}


def test_a_change_that_was_not_acknowledged_may_be_seen_and_not_seen_for_a_minute():
    history, evidence = sound()
    of(history, "move").outcome = INFO  # its writer was killed; two who read one after the other see both sides
    early = replace(of(history, "read_session"), invoked=12.0, returned=12.1)
    early.told = {"version": 10, "digest": "d10", "messages": 3, "state": "active"}
    history.ops.append(early)

    reads = next(one for one in judge(history, evidence) if one.name.startswith("8"))
    assert (reads.violations, reads.counts["steps back"]) == ([], 1)

    late = replace(early, invoked=120.0, returned=120.1)
    history.ops.append(late)

    assert "8" in broken(history, evidence)
