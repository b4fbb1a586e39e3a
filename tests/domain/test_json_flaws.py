"""Text that cannot be taken: which character it is, at which byte, and in which field."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.errors import Fault
from service.domain.json_flaws import FLAWS_MAX, PLACED_BYTES_MAX, faults_of, faults_of_unparsed
from service.domain.json_text import HAS_NUL as NUL
from service.domain.json_text import NOT_UTF8

MIB = 1024 * 1024
HALF = "Half of a character"


def refused(text: bytes) -> list[Fault]:
    """Why `text` is refused, however it is found."""
    faults = faults_of(text, "body")
    if faults:
        return faults
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        return faults_of_unparsed(text, error, "body")
    return []


@pytest.mark.parametrize(
    ("text", "places"),
    [
        (rb'{"content":"cut \ud83d"}', [("body.content", "`\\ud83d` at byte 16 ")]),
        (rb'{"content":"\ude00 cut"}', [("body.content", "`\\ude00` at byte 12 ")]),
        (rb'{"content":"\uD83D"}', [("body.content", "`\\uD83D` at byte 12 ")]),
        (rb'{"a":"\ud83d","b":["\udc00"]}', [("body.a", "at byte 6 "), ("body.b[0]", "at byte 20 ")]),
        (rb'{"a":[{"b":["x",{"c":"\ud83d"}]}]}', [("body.a[0].b[1].c", "at byte 22 ")]),
        (rb'{"a":"\ud83d and \ud83d"}', [("body.a", "at byte 6 ")]),
        (rb'{"a":"\ud83d\ude00\ud83d"}', [("body.a", "at byte 18 ")]),
        (rb'{"a":"\udc00\ud800"}', [("body.a", "at byte 6 ")]),
        (rb'{"a":"\ud83d\u0041"}', [("body.a", "at byte 6 ")]),
        (rb'{"a":"\\\ud83d"}', [("body.a", "at byte 8 ")]),
        (rb'{"a":"\\ud83d","b":"\ud83d"}', [("body.b", "at byte 20 ")]),
        (rb'{"a":{"k\ud83d":1}}', [("body.a", "at byte 8 ")]),
        (rb'{"a":{"k\ud83d":"\ud83d"}}', [("body.a", "at byte 8 "), ("body.a.k\ufffd", "at byte 17 ")]),
        (rb'"\ud83d"', [("body", "at byte 1 ")]),
        (rb'["\ud83d"]', [("body[0]", "at byte 2 ")]),
        # Two equal keys: the parser keeps the last, so the first cannot be told.
        (rb'{"a":"\ud83d","a":1}', [("body", "at byte 6 ")]),
        ('{"a":"\ufdd0\\ud83d"}'.encode(), [("body", "at byte 9 ")]),
        (b'{"a":"\xed\xa0\xbd"}', [("body.a", "0xED 0xA0 0xBD at byte 6 ")]),
        (b'{"a":["\xed\xb8\x80"]}', [("body.a[0]", "0xED 0xB8 0x80 at byte 7 ")]),
    ],
)
def test_half_of_a_character_is_said_to_be_that_and_where_it_is(text: bytes, places: list[tuple[str, str]]):
    faults = refused(text)

    assert [fault.path for fault in faults] == [path for path, _ in places]
    for fault, (_, found) in zip(faults, places, strict=True):
        assert fault.message.startswith(HALF)
        assert found in fault.message
        assert "toWellFormed()" in fault.message


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        (rb'{"a":"x\u0000"}', [Fault("body.a", f"{NUL}, as at byte 7")]),
        (
            rb'{"a":{"\u0000":["\\\u0000"]}}',
            [Fault("body.a", f"{NUL}, as at byte 7"), Fault("body.a.\ufffd[0]", f"{NUL}, as at byte 19")],
        ),
        (b'{"a":"caf\xe9"}', [Fault("body.a", f"{NOT_UTF8}: 0xE9 at byte 9")]),
        (b'{"a":["\xc0\xaf"]}', [Fault("body.a[0]", f"{NOT_UTF8}: 0xC0 at byte 7")]),
        (b"\xff\xfe{\0}\0", [Fault("body", f"{NOT_UTF8}: 0xFF at byte 0")]),
    ],
)
def test_a_nul_and_a_byte_that_is_no_utf8_are_named_with_their_places(text: bytes, faults: list[Fault]):
    assert refused(text) == faults


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (rb'{"a":"\ud83d"', "Input data was truncated"),
        (rb"{'a':'\ud83d'}", "object keys must be strings (byte 1)"),
        (rb'{"a":"\ud83d", 5:1}', "object keys must be strings (byte 15)"),
        (b'{"a":"cut', "Input data was truncated"),
        (rb'{"a":"\ud83', "Input data was truncated"),
        (b"", "Input data was truncated"),
    ],
)
def test_what_is_no_json_beside_is_said_to_be_that(text: bytes, said: str):
    assert refused(text) == [Fault("body", f"Not JSON: {said}")]


HALVES = st.text(st.sampled_from('a\\"\ud83d\ude00\U0001f600'), max_size=6)
VALUES = st.recursive(
    st.none() | st.integers(-5, 5) | HALVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(HALVES, inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=300)
@given(VALUES)
def test_text_is_refused_for_halves_exactly_where_it_holds_any(value: Any):
    text = json.dumps(value).encode()

    try:
        expected = json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        faults = refused(text)
        assert faults
        assert all(fault.message.startswith(HALF) for fault in faults)
    else:
        assert expected
        assert refused(text) == []


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_no_bytes_whatever_break_the_search(text: bytes):
    for wrapped in (text, b'{"a":"' + text + b'"}', rb'["\ud83d' + text + b'"]'):
        refused(wrapped)


def test_a_text_full_of_halves_is_answered_with_the_first():
    for unit in (rb"\ud83d", b"\xff", b"\xed\xa0\xbd", rb"\u0000"):
        some = refused(b'["' + unit * FLAWS_MAX + b'"]')
        many = refused(b'["' + unit * (MIB // len(unit)) + b'"]')
        assert [fault.path for fault in some] == ["body[0]"]
        assert [fault.path for fault in many] == ["body"]
        assert some[0].message == many[0].message
    spread = refused(b"[" + rb'"\ud83d",' * FLAWS_MAX + b"1]")
    assert [fault.path for fault in spread] == [f"body[{place}]" for place in range(FLAWS_MAX)]


def test_of_a_long_text_only_the_byte_is_named():
    text = b'{"a":"' + b"x" * PLACED_BYTES_MAX + rb'\ud83d"}'

    (fault,) = refused(text)

    assert (fault.path, f"at byte {PLACED_BYTES_MAX + 6} " in fault.message) == ("body", True)
