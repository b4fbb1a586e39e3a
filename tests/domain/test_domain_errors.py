from __future__ import annotations

import re

import pytest

from service.domain import errors
from service.domain.errors import DomainError, Fault, InvalidRequest

ALL = [
    member
    for member in vars(errors).values()
    if isinstance(member, type) and issubclass(member, DomainError) and member is not DomainError
]


def test_every_refusal_has_a_code_of_its_own_in_snake_case():
    codes = [error.code for error in ALL if "code" in vars(error)]

    assert len(codes) == len(set(codes))
    assert [code for code in codes if not re.fullmatch(r"[a-z]+(_[a-z]+)*", code)] == []


@pytest.mark.parametrize("error", [error for error in ALL if error is not InvalidRequest])
def test_every_refusal_is_one_sentence_unless_a_better_one_is_given(error: type[DomainError]):
    assert re.fullmatch(r"[A-Z][^\n]*[^\s.]\.", error().detail)
    assert error("Better.").detail == "Better."
    assert str(error("Better.")) == "Better."


def test_extras_become_members_of_the_problem():
    assert errors.SessionEnded(current_status="ended").extras == {"current_status": "ended"}


def test_a_malformed_request_names_its_first_fault_and_counts_the_others():
    first, second = Fault("body.a", "Wrong"), Fault("query.b", "Unknown parameter")

    assert InvalidRequest([first]).detail == "body.a: Wrong"
    assert InvalidRequest([first, second]).detail == "body.a: Wrong (and 1 more)"
    assert InvalidRequest([first, second]).extras == {"errors": [first, second]}


def test_a_subclass_that_brings_no_sentence_still_says_something():
    class Nameless(DomainError):
        code = "nameless"

    assert Nameless().detail
