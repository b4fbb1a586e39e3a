"""Nothing that is logged, or shown by `holdfast up`, moves the cursor, turns the writing around or breaks a line."""

from __future__ import annotations

import json
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from service.log import _render
from service.plain_text import UNSEEN, plain

ANYTHING = st.text(st.characters(exclude_categories=[]))


def test_of_all_characters_of_unicode_those_that_are_no_sign_are_written_out():
    everything = "".join(map(chr, range(sys.maxunicode + 1)))

    shown = plain(everything)

    assert {unicodedata.category(character) for character in shown if character != "\t"} & UNSEEN == set()
    assert set(shown) == {c for c in everything if c == "\t" or unicodedata.category(c) not in UNSEEN}


@given(ANYTHING, ANYTHING)
def test_a_line_of_the_log_holds_every_text_and_shows_signs_alone(name, text):
    line = _render(None, "", {"event": text, name: [text, {"nested": text}]}).decode()

    assert [character for character in line if unicodedata.category(character) in UNSEEN] == []
    assert json.loads(line) == {"event": text, name: [text, {"nested": text}]}
