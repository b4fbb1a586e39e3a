"""Seals: opened with a secret that sealed them, in the row for which they were made, unchanged, and in no other way."""

from __future__ import annotations

import base64
from itertools import combinations
from uuid import uuid4

import pytest
from sealing import SEALS

from service.seals import MARK_BYTES, Purpose, Seals, Unopened, as_text, is_sealed, place_of_answer, place_of_webhook

CONTENT = b'{"secret": "hf_shown-once"}'
OLD, NEW = bytes(range(32)), bytes(range(1, 33))
ROW = b"r" * 32
HERE = place_of_answer("acme", ROW)


def test_what_was_sealed_opens_in_its_row():
    sealed = SEALS.seal(HERE, CONTENT)

    assert SEALS.open(HERE, sealed) == CONTENT
    assert CONTENT not in sealed
    assert is_sealed(sealed)
    assert SEALS.seal(HERE, CONTENT) != sealed


@pytest.mark.parametrize(
    "elsewhere",
    [
        place_of_answer("acme", b"s" * 32),
        place_of_answer("another", ROW),
        place_of_answer("acm", b"e" + ROW),
        place_of_webhook("acme", uuid4()),
    ],
)
def test_in_another_row_it_does_not_open(elsewhere):
    sealed = SEALS.seal(HERE, CONTENT)

    with pytest.raises(Unopened):
        SEALS.open(elsewhere, sealed)


def test_a_row_with_the_same_id_of_another_purpose_does_not_open_it():
    webhook_id = uuid4()
    sealed = SEALS.seal(place_of_answer("acme", webhook_id.bytes), CONTENT)

    with pytest.raises(Unopened):
        SEALS.open(place_of_webhook("acme", webhook_id), sealed)


def test_no_change_of_any_byte_goes_unnoticed():
    sealed = SEALS.seal(HERE, CONTENT)
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(Unopened):
            SEALS.open(HERE, bytes(changed))
    for length in range(len(sealed)):
        with pytest.raises(Unopened):
            SEALS.open(HERE, sealed[:length])


def test_the_first_secret_seals_and_all_of_them_open():
    before, during, after = Seals([OLD]), Seals([NEW, OLD]), Seals([NEW])
    old, new = before.seal(HERE, CONTENT), during.seal(HERE, CONTENT)

    assert [seals.open(HERE, old) for seals in (before, during)] == [CONTENT] * 2
    assert [seals.open(HERE, new) for seals in (during, after)] == [CONTENT] * 2
    assert (during.knows(old), after.knows(old)) == (True, False)
    for seals, sealed in ((after, old), (before, new)):
        with pytest.raises(Unopened):
            seals.open(HERE, sealed)


def test_a_mark_tells_which_secret_sealed_and_nothing_of_it():
    marks = [Seals([secret]).mark for secret in (OLD, NEW)]

    assert [Seals([secret]).mark for secret in (OLD, NEW)] == marks
    assert len({*marks}) == 2
    assert {len(mark) for mark in marks} == {MARK_BYTES}
    assert not any(secret[:4] in mark for secret in (OLD, NEW) for mark in marks)


def test_the_mark_begins_what_is_sealed_in_text_too():
    place = place_of_webhook("acme", uuid4())
    stored = SEALS.seal_text(place, "whsec_shown-once")

    assert SEALS.open_text(place, stored) == "whsec_shown-once"
    assert stored.startswith(as_text(SEALS.mark))
    assert stored.isascii()
    assert SEALS.open_text(place, "whsec_of-an-older-version") == "whsec_of-an-older-version"
    for wrong in (stored[:-4], stored[:-1] + "?", stored + "AAAA"):
        with pytest.raises(Unopened):
            SEALS.open_text(place, wrong)


def test_no_two_places_have_the_same_name():
    parts = ["", "a", "ab", "b"]
    places = [place_of_answer(tenant, row.encode()) for tenant in parts for row in parts]

    assert all(one.name != other.name for one, other in combinations(places, 2))
    assert {Purpose.KEPT_ANSWER, Purpose.WEBHOOK_SECRET} == set(Purpose)
    assert base64.b64decode(as_text(HERE.name)) == HERE.name
