"""The quick look at JSON text, against a slow one that parses it all and walks through what it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rounds import rounds

from service.domain.json_text import DEPTH_MAX, INTEGER_ABS_MAX, PARSER, TOO_MANY, VALUES_MAX, fault_of, finite, parsed
from service.domain.message import MessageDraft
from service.handlers.bodies import _decoder
from service.handlers.uploads import METADATA

NOT_UTF8 = "The body is not UTF-8"
HAS_NUL = "Text may not hold the character NUL (\\u0000)"
TOO_DEEP = "The JSON is nested deeper than 32 levels"
TOO_LARGE = "Integers must lie within ±2^53"
MIB = 1024 * 1024


def slow_fault_of(text: str) -> str | None:
    """The first rule that valid JSON breaks, found by parsing it; objects become lists of pairs to keep every key."""
    value = json.loads(text, object_pairs_hook=lambda pairs: [("pairs", pairs)])
    parts = list(walk(value, 0))
    if any(isinstance(part, str) and "\0" in part for part, _ in parts):
        return HAS_NUL
    if any(depth > 32 for _, depth in parts):
        return TOO_DEEP
    if any(isinstance(part, int) and abs(part) > 2**53 for part, _ in parts):
        return TOO_LARGE
    return None


def walk(value: Any, depth: int) -> Iterator[tuple[Any, int]]:
    """Every scalar and every container of a parsed text, with the number of containers around and including it."""
    if not isinstance(value, list):
        yield value, depth
        return
    yield None, depth + 1
    is_object = len(value) == 1 and isinstance(value[0], tuple) and value[0][0] == "pairs"
    members = [part for pair in value[0][1] for part in pair] if is_object else value
    for member in members:
        yield from walk(member, depth + 1)


HOSTILE_TEXT = st.text(st.sampled_from('"\\[]{}0123456789u-+.eE,: \0\u00e9\U0001f600'), max_size=24)
INTEGERS = st.integers() | st.sampled_from([2**53, 2**53 + 1, -(2**53), -(2**53) - 1, 10**15, 10**16, 10**400, 0])
SCALARS = st.none() | st.booleans() | INTEGERS | st.floats(allow_nan=False, allow_infinity=False) | HOSTILE_TEXT


def nested(value: Any, depth: int) -> Any:
    for level in range(depth):
        value = [value] if level % 2 else {"[": value}
    return value


VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(HOSTILE_TEXT, inner, max_size=4)
        | st.builds(nested, inner, st.integers(0, 34))
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=rounds(400))
@given(VALUES, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_valid_json_is_judged_as_by_parsing_it(value: Any, ascii_only: bool, indent: int | str | None):
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)

    assert fault_of(text.encode()) == slow_fault_of(text)


@settings(deadline=None, max_examples=rounds(400))
@given(st.text(st.sampled_from('"\\[]{}0123456789u0000-+.eE,: \n'), max_size=200))
def test_text_that_parses_after_all_is_judged_as_by_parsing_it_and_the_rest_breaks_nothing(text: str):
    judged = fault_of(text.encode())

    try:
        expected = slow_fault_of(text)
    except ValueError:  # no JSON: the parser will refuse it, whatever was found before
        return
    assert judged == expected


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_not_utf8_are_said_to_be_so(text: bytes):
    try:
        text.decode()
    except UnicodeDecodeError:
        assert fault_of(text) == NOT_UTF8
    else:
        assert fault_of(text) != NOT_UTF8


@pytest.mark.parametrize("text", [b"\xff", b'"\xc3"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b"\xef\xbb\xbf\xfe"])
def test_broken_and_overlong_utf8_and_raw_surrogates_are_not_utf8(text: bytes):
    assert fault_of(text) == NOT_UTF8


@pytest.mark.parametrize(
    ("text", "holds_nul"),
    [
        (rb'"\u0000"', True),
        (rb'"a\u0000b"', True),
        (rb'{"\u0000": 1}', True),
        (rb'"\\u0000"', False),
        (rb'"\\\u0000"', True),
        (rb'"\\\\u0000"', False),
        (rb'"\\\\\u0000"', True),
        (rb'"\"\u0000"', True),
        (rb'"\\u0000 and \u0000"', True),
        (rb'"\u00001"', True),
        (rb'"\u0001"', False),
        (rb'"u0000"', False),
    ],
)
def test_an_escaped_nul_is_found_and_an_escaped_backslash_is_no_escape(text: bytes, holds_nul: bool):
    assert (slow_fault_of(text.decode()) == HAS_NUL) == holds_nul
    assert fault_of(text) == (HAS_NUL if holds_nul else None)


@pytest.mark.parametrize("opening", [b"[", b'{"k":'])
def test_exactly_32_levels_are_taken(opening: bytes):
    closing = b"]" if opening == b"[" else b"}"

    assert fault_of(opening * DEPTH_MAX + b"1" + closing * DEPTH_MAX) is None
    assert fault_of(opening * (DEPTH_MAX + 1) + b"1" + closing * (DEPTH_MAX + 1)) == TOO_DEEP


def test_width_is_no_depth_and_brackets_in_strings_are_none():
    assert fault_of(b"[" + b",".join([b"[]"] * 1000) + b"]") is None
    assert fault_of(b'"' + b"[{" * 1000 + b'"') is None
    assert fault_of(b'["\\"' + b"[" * 1000 + b'"]') is None


@pytest.mark.parametrize("value", [b"1", b"[]", b'{"a":1}', b'""', b'"a\\","'])
def test_exactly_50_000_values_are_taken(value: bytes):
    each = 2 if value[:1] in b"[{" else 1
    most = (VALUES_MAX - 1) // each
    text = b"[" + b",".join([value] * most)

    assert fault_of(text + b"]") is None
    assert fault_of(text + b"," + value + b"," + value + b"]") == TOO_MANY


def test_commas_and_brackets_in_strings_are_no_values():
    assert fault_of(b'["' + b"[,{" * VALUES_MAX + b'"]') is None


@pytest.mark.parametrize("sign", [b"", b"-"])
def test_integers_are_taken_up_to_2_to_the_53(sign: bytes):
    largest = sign + str(INTEGER_ABS_MAX).encode()
    beyond = sign + str(INTEGER_ABS_MAX + 1).encode()

    assert fault_of(largest) is None
    assert fault_of(b"[1, " + largest + b"]") is None
    assert fault_of(beyond) == TOO_LARGE
    assert fault_of(b'{"n":' + beyond + b"}") == TOO_LARGE
    assert fault_of(b"[" + sign + b"9" * 5000 + b"]") == TOO_LARGE


def test_digits_in_strings_and_floats_are_no_integers():
    assert fault_of(b'"9999999999999999999"') is None
    assert fault_of(b'{"9999999999999999999": "\\"9999999999999999999"}') is None
    assert fault_of(b"0.9999999999999999999") is None
    assert fault_of(b"9999999999999999999.0") is None
    assert fault_of(b"99999999999999999999e1") is None


@pytest.mark.parametrize(
    "pattern",
    [
        b'"' * 33 + b"[",
        b'"\\',
        b'[{"1234567890123456',
        b"\\" * 63 + b"u0000",
        rb"\\u0000",
        b"[" * 40 + b'"',
        b"-" * 15 + b"1234567890123456",
        b"1234567890123456.",
        b'"[' + b"\\" * 7,
    ],
)
def test_a_mebibyte_of_unterminated_strings_is_judged_at_all(pattern: bytes):
    body = b'[{"1234567890123456\\u0000' + pattern * (MIB // len(pattern))

    fault_of(body)
    fault_of(body[1:])
    fault_of(pattern * (MIB // len(pattern)))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_read_as_python_reads_them(number: float):
    assert parsed(f"[{number!r}]") == [number]


@pytest.mark.parametrize("number", ["1e309", "-1e999", "1" * 400 + ".5"])
def test_a_number_that_no_float_can_hold_is_refused(number: str):
    with pytest.raises(msgspec.DecodeError, match="out of range"):
        parsed(f'{{"n": {number}}}')


def test_no_number_is_read_by_the_parser_that_some_hold_up():
    assert PARSER.float_hook is finite
    assert METADATA.float_hook is finite
    assert _decoder(MessageDraft).float_hook is finite
