"""What JSON text may look like before anything reads it: UTF-8, bounded depth, bounded integers, no NUL.

PostgreSQL cannot store NUL in text, a parser's recursion must not be the limit of depth, and JavaScript reads
integers exactly only up to 2^53. Each rule has a cheap test that almost every body passes at once.
"""

from __future__ import annotations

import re

DEPTH_MAX = 32
"""Deeper than any honest payload, far below the parser's own limit of about 1,000."""

INTEGER_ABS_MAX = 2**53
"""The largest range in which every JSON reader agrees on integers (RFC 8259, section 6)."""

LONG_DIGITS = re.compile(rb"\d{16}")
"""2^53 has 16 digits: text without 16 digits in a row cannot break the integer rule."""

NUL_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")

# A string that never closes matches up to the end of the text: were it no match, each of its quotes would be tried as
# a start again, and a body of 1 MiB would cost hours.
STRING = rb'"(?:[^"\\]|\\.?)*+(?:"|\Z)'
NESTING_TOKEN = re.compile(STRING + rb"|[\[\]{}]", re.DOTALL)
NUMBER_TOKEN = re.compile(STRING + rb"|-?\d[\d.eE+-]*", re.DOTALL)

NOT_UTF8 = "The body is not UTF-8"
HAS_NUL = "Text may not hold the character NUL (\\u0000)"


def fault_of(text: bytes) -> str | None:
    """The first rule that `text` breaks, as a sentence for a person; None when it may be parsed.

    Where it is broken is searched for by `json_flaws`, and only then: almost every body breaks none.
    """
    try:
        text.decode()
    except UnicodeDecodeError:
        return NOT_UTF8
    if b"\\u0000" in text and NUL_ESCAPE.search(text):
        return HAS_NUL
    if text.count(b"{") + text.count(b"[") > DEPTH_MAX and _depth(text) > DEPTH_MAX:
        return f"The JSON is nested deeper than {DEPTH_MAX} levels"
    if LONG_DIGITS.search(text) and _has_long_integer(text):
        return "Integers must lie within ±2^53"
    return None


def _depth(text: bytes) -> int:
    depth = deepest = 0
    for token in NESTING_TOKEN.finditer(text):
        first = token.group()[0]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
            if deepest > DEPTH_MAX:
                break
        elif first in b"]}":
            depth -= 1
    return deepest


def _has_long_integer(text: bytes) -> bool:
    for token in NUMBER_TOKEN.finditer(text):
        number = token.group()
        if number[0] == ord('"') or not number.lstrip(b"-").isdigit():
            continue
        digits = number.lstrip(b"-").lstrip(b"0")
        if len(digits) > len(str(INTEGER_ABS_MAX)) or int(digits or b"0") > INTEGER_ABS_MAX:
            return True
    return False
