"""What JSON text may look like before anything reads it: UTF-8, bounded depth, number of values and integers, no NUL.

PostgreSQL cannot store NUL in text, a parser's recursion must not be the limit of depth, and JavaScript reads
integers exactly only up to 2^53.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

DEPTH_MAX = 32
"""Deeper than any honest payload, far below the parser's own limit of about 1,000."""

INTEGER_ABS_MAX = 2**53
"""The largest range in which every JSON reader agrees on integers (RFC 8259, section 6)."""

VALUES_MAX = 50_000
"""Of one text. An empty list costs a parser a thousand times the price of a letter: a body of 1 MiB that is all of them
would hold up everybody for half a second, this many do for 50 ms (measured)."""

LONG_DIGITS = re.compile(rb"\d{16}")
LONG_INTEGER = re.compile(rb"(?<![\d.eE+-])-?(\d{16,}+)(?![.eE])")
"""2^53 has 16 digits: an integer of fewer cannot break the rule."""

NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

NOT_UTF8 = "The body is not UTF-8"
HAS_NUL = "Text may not hold the character NUL (\\u0000)"
TOO_DEEP = f"The JSON is nested deeper than {DEPTH_MAX} levels"
TOO_MANY = f"The JSON has more than {VALUES_MAX} values (its commas and opening brackets are counted)"
TOO_LARGE = "Integers must lie within ±2^53"

ONE_KIND_OF_BRACKET = bytes.maketrans(b"{}", b"[]")
ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def fault_of(text: bytes) -> str | None:
    """The first rule that `text` breaks, as a sentence for a person; None when it may be parsed.

    Where it is broken is searched for by `json_flaws`, and only then: almost every body breaks none. Every step is a
    scan in C: 1 MiB costs milliseconds, whatever stands in it.
    """
    try:
        text.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    if b"\\u0000" in text and NUL_ESCAPE.search(text):
        return HAS_NUL
    is_short = len(text) <= VALUES_MAX and text.count(b"{") + text.count(b"[") <= DEPTH_MAX
    if is_short and not LONG_DIGITS.search(text):
        return None  # as almost every body
    return _fault_outside_strings(_outside_strings(text))


def _outside_strings(text: bytes) -> bytes:
    """`text` with one quote in place of each string; one that never closes goes up to the end of the text."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b'"'.join(text.split(b'"')[::2])


def _fault_outside_strings(outside: bytes) -> str | None:
    if outside.count(b",") + outside.count(b"[") + outside.count(b"{") > VALUES_MAX:
        return TOO_MANY
    if _is_too_deep(outside):
        return TOO_DEEP
    if any(_is_too_large(number[1]) for number in LONG_INTEGER.finditer(outside)):
        return TOO_LARGE
    return None


def _is_too_deep(outside: bytes) -> bool:
    """Whether brackets are left when the innermost pairs have been taken out as often as there may be levels."""
    brackets = outside.translate(ONE_KIND_OF_BRACKET, ALL_BUT_BRACKETS)
    if brackets.count(b"[") <= DEPTH_MAX:
        return False
    for _ in range(DEPTH_MAX):
        brackets = brackets.replace(b"[]", b"")
    return bool(brackets)


def _is_too_large(digits: bytes) -> bool:
    return len(digits) > len(str(INTEGER_ABS_MAX)) or int(digits) > INTEGER_ABS_MAX


def finite(number: str) -> float:
    """A number of JSON with a point or an exponent, for decoders that read free JSON (`float_hook`).

    msgspec's own reading of `1e308` costs 9 µs, Python's 0.3 (measured): a body of such numbers held up everybody for
    1.5 s.

    Raises:
        ValueError: no float is that large.
    """
    value = float(number)
    if math.isinf(value):
        raise ValueError("Number out of range")
    return value


PARSER = msgspec.json.Decoder(float_hook=finite)


def parsed(text: bytes | str) -> Any:
    """Free JSON as plain values.

    Raises:
        msgspec.DecodeError: it is no JSON, or a number is too large.
    """
    return PARSER.decode(text)
