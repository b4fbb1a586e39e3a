"""The diagram of API 2, written here a second time, against the table that the product goes by."""

from __future__ import annotations

from itertools import product

import msgspec
import pytest
from drawn import NOW, arrows, session_that_is

from service.domain.errors import (
    InvalidTransition,
    MessageLimitExceeded,
    SessionEnded,
    SessionExpired,
    SessionNotActive,
    VersionMismatch,
)
from service.domain.event import EventType
from service.domain.session import (
    MOVES,
    EndReason,
    Move,
    Session,
    SessionConfig,
    Status,
    after_move,
    allowed_moves,
    event_of,
    refusal_of_append,
    refuse_change,
    refuse_other_version,
    renews_time,
)

DIAGRAM = """
    created   --activate--> active
    created   --end-------> ended
    active    --suspend---> suspended
    active    --end-------> ended
    suspended --activate--> active
    suspended --resume----> active
    suspended --end-------> ended
"""


def expired_session() -> Session:
    return session_that_is(Status.ENDED, end_reason=EndReason.EXPIRED)


def test_the_moves_are_those_of_the_diagram():
    assert {(origin.value, move.value): target.value for (origin, move), target in MOVES.items()} == arrows(DIAGRAM)


@pytest.mark.parametrize(("status", "move"), list(product(Status, Move)))
def test_a_move_leads_where_the_diagram_says_or_is_refused(status: Status, move: Move):
    session = session_that_is(status)
    target = arrows(DIAGRAM).get((status.value, move.value))

    if target is not None:
        assert after_move(session, move) == target
    else:
        with pytest.raises(InvalidTransition) as refused:
            after_move(session, move)
        assert refused.value.extras == {
            "current_status": status,
            "allowed": [name for origin, name in arrows(DIAGRAM) if origin == status.value],
        }
        assert status.value in refused.value.detail
        assert move.value in refused.value.detail


@pytest.mark.parametrize("status", Status)
def test_what_is_allowed_is_what_the_diagram_draws_from_there(status: Status):
    assert [move.value for move in allowed_moves(status)] == [
        name for origin, name in arrows(DIAGRAM) if origin == status
    ]


def test_nothing_leads_out_of_ended():
    assert allowed_moves(Status.ENDED) == []


@pytest.mark.parametrize("move", Move)
def test_expired_wins_over_every_other_refusal_of_a_move(move: Move):
    with pytest.raises(SessionExpired) as refused:
        after_move(expired_session(), move)

    assert refused.value.extras == {"current_status": Status.ENDED, "ended_at": NOW}


def test_expired_wins_over_every_other_refusal_of_a_change_and_of_an_append():
    with pytest.raises(SessionExpired):
        refuse_change(expired_session())
    full = msgspec.structs.replace(expired_session(), message_count=5)
    assert isinstance(refusal_of_append(full, 1), SessionExpired)


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ENDED])
def test_a_session_that_is_not_over_may_be_changed(status: Status):
    refuse_change(session_that_is(status))


def test_an_ended_session_cannot_be_changed():
    with pytest.raises(SessionEnded) as refused:
        refuse_change(session_that_is(Status.ENDED))

    assert refused.value.extras == {"current_status": Status.ENDED, "allowed": []}


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.ACTIVE])
def test_only_an_active_session_takes_messages(status: Status):
    refusal = refusal_of_append(session_that_is(status), 1)

    assert isinstance(refusal, SessionNotActive)
    assert refusal.extras == {"current_status": status, "allowed": allowed_moves(status)}


def test_a_session_that_is_not_active_says_so_even_when_it_is_full():
    assert isinstance(refusal_of_append(session_that_is(Status.SUSPENDED, message_count=5), 1), SessionNotActive)


@pytest.mark.parametrize(("standing", "more"), [(0, 1), (0, 5), (4, 1), (2, 3)])
def test_messages_fit_up_to_the_limit(standing: int, more: int):
    assert refusal_of_append(session_that_is(Status.ACTIVE, message_count=standing), more) is None


@pytest.mark.parametrize(("standing", "more"), [(5, 1), (0, 6), (4, 2), (9, 1)])
def test_messages_over_the_limit_are_refused_with_the_count_and_the_limit(standing: int, more: int):
    refusal = refusal_of_append(session_that_is(Status.ACTIVE, message_count=standing), more)

    assert isinstance(refusal, MessageLimitExceeded)
    assert refusal.extras == {"current_status": Status.ACTIVE, "message_count": standing, "max_messages": 5}


def test_any_version_will_do_when_none_is_named():
    refuse_other_version(session_that_is(Status.ACTIVE), None)


def test_one_of_the_named_versions_must_be_the_current_one():
    refuse_other_version(session_that_is(Status.ACTIVE), frozenset({2, 3}))

    for versions in (frozenset({2, 4}), frozenset[int]()):
        with pytest.raises(VersionMismatch) as refused:
            refuse_other_version(session_that_is(Status.ACTIVE), versions)
        assert refused.value.extras == {"current_version": 3}


def test_each_move_has_its_own_event():
    assert {move: event_of(move) for move in Move} == {
        Move.ACTIVATE: EventType.SESSION_ACTIVATED,
        Move.SUSPEND: EventType.SESSION_SUSPENDED,
        Move.RESUME: EventType.SESSION_RESUMED,
        Move.END: EventType.SESSION_ENDED,
    }


def test_activate_and_resume_give_the_full_time_again_and_no_other_move_does():
    assert {move for move in Move if renews_time(move)} == {Move.ACTIVATE, Move.RESUME}


@pytest.mark.parametrize(
    ("name", "lowest", "highest"),
    [
        ("max_messages", 1, 1_000_000),
        ("max_attachments", 0, 10_000),
        ("max_attachment_size", 1024, 100 * 1024 * 1024),
        ("timeout_minutes", 1, 43_200),
        ("approval_timeout_seconds", 1, 2_592_000),
    ],
)
def test_each_number_of_a_config_has_the_bounds_of_the_contract(name: str, lowest: int, highest: int):
    for good in (lowest, highest):
        assert getattr(msgspec.convert({name: good}, SessionConfig), name) == good
    for bad in (lowest - 1, highest + 1, str(lowest), True, 1.5):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({name: bad}, SessionConfig)
