"""Text from outside as a terminal or a log may show it: nothing in it moves, hides or breaks a line."""

from __future__ import annotations

import re
import unicodedata

UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode's categories of what is no sign: controls (C0, DEL, C1), formats (directions, zero widths, tags), halves of

surrogate pairs, and the separators of lines and paragraphs.
"""

SUSPECTS = re.compile(r"[^\t -~]")
"""All but the 95 signs of ASCII and the tab, which moves within its line: only these are looked up."""

BMP_MAX = 0xFFFF
"""The last code point that one `\\uXXXX` of JSON can write (RFC 8259, section 7)."""


def plain(text: str) -> str:
    """`text` with every character that is no sign escaped as in JSON, so JSON stays JSON with the same values."""
    return SUSPECTS.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    character = found[0]
    if unicodedata.category(character) not in UNSEEN:
        return character
    code = ord(character)
    if code <= BMP_MAX:
        return f"\\u{code:04x}"
    high, low = divmod(code - 0x10000, 0x400)
    return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
