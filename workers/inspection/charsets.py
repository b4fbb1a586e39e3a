"""Whether bytes are text, and in which encoding."""

from __future__ import annotations

import codecs
import re
import string

from charset_normalizer import from_bytes

from workers.inspection.limits import KIB

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

ASCII = bytes(range(0x80))
ASCII_LETTERS = string.ascii_letters.encode()

CONTROLS = bytes(set(range(0x20)) - {0x07, 0x08, 0x09, 0x0A, 0x0C, 0x0D, 0x1B}) + b"\x7f"
CONTROLS_SHARE_MAX = 0.002
"""Bytes that are no text have one in ten; a log with a stray one stays text."""

ZEROS_SHARE_MIN = 0.3
"""Of the high bytes of a text in UTF-16 whose script is Latin."""

MOJIBAKE_SHARE_MAX = 0.02
"""So many broken characters among those beyond ASCII make a damaged UTF-8 and not another encoding."""

GUESSED_BYTES_MAX = 64 * KIB
"""More does not make the guess better, and it costs seconds."""

WESTERN = "cp1252"
WESTERN_CHAOS_MARGIN = 0.1
"""charset-normalizer takes the first of equals by alphabet, so Western European texts become Central European ones
("mañana" → "mańana"). Real Polish, Czech, Hungarian or Turkish is worse than this as Windows-1252, or impossible."""

LATIN = ["cp1250", "cp1252", "cp1254", "cp1257"]
GUESSES = [
    *LATIN,
    *("cp1251", "cp1253", "cp1255", "cp1256", "koi8_r", "mac_roman", "cp850"),
    *("cp932", "euc_jp", "gb18030", "big5", "cp949"),
]
"""What files are written in. All that Python knows would be a hundred, and EBCDIC wins now and then."""

ACCENTED_SHARE_MAX = 0.4
ACCENTED_MIN = 4
"""Where fewer of the letters are beyond ASCII, or hardly any, the script is Latin: others have half of theirs there."""

NAMES = {
    "utf-8-sig": "utf-8",
    "utf-16-le": "utf-16",
    "utf-16-be": "utf-16",
    "koi8_r": "koi8-r",
    "mac_roman": "macintosh",
    "cp850": "ibm850",
    "cp932": "shift_jis",
    "cp949": "euc-kr",
    "euc_jp": "euc-jp",
}
"""What the world calls Python's codecs."""


def name_of(codec: str) -> str:
    """The name under which an encoding is registered."""
    return NAMES.get(codec) or re.sub(r"^cp(?=125\d$)", "windows-", codec)


def codec_of(beginning: bytes) -> str | None:
    """The codec that reads a text that begins like this; None where it is no text."""
    for mark, codec in BYTE_ORDER_MARKS:
        if beginning.startswith(mark):
            return codec
    if b"\0" in beginning:
        return _wide_codec_of(beginning)
    if len(beginning.translate(None, CONTROLS)) < len(beginning) * (1 - CONTROLS_SHARE_MAX):
        return None
    if _is_utf8(beginning):
        return "utf-8"
    return _guess(beginning)


def _wide_codec_of(beginning: bytes) -> str | None:
    """UTF-16 without a mark, as some programs of Windows write it: every other byte of a Latin letter is zero."""
    half = max(len(beginning) // 2, 1)
    zeros = {"utf-16-be": beginning[0::2].count(0) / half, "utf-16-le": beginning[1::2].count(0) / half}
    codec = max(zeros, key=lambda name: zeros[name])
    if zeros[codec] < ZEROS_SHARE_MIN:
        return None
    try:
        text = codecs.getincrementaldecoder(codec)().decode(beginning)
    except UnicodeDecodeError:
        return None
    return None if any(chr(control) in text for control in (0, *CONTROLS)) else codec


def _is_utf8(beginning: bytes) -> bool:
    """Whether it is UTF-8, cut anywhere, with a broken character or two."""
    decoder = codecs.getincrementaldecoder("utf-8")
    try:
        decoder().decode(beginning)
    except UnicodeDecodeError:
        text = decoder("replace").decode(beginning)
        beyond_ascii = len(text) - len(text.encode("ascii", "ignore"))
        return text.count("\ufffd") <= beyond_ascii * MOJIBAKE_SHARE_MAX
    return True


def _guess(beginning: bytes) -> str:
    """The likeliest of the older encodings, judged by the lines that tell."""
    telling = b"".join(line for line in beginning.splitlines(keepends=True) if not line.isascii())[:GUESSED_BYTES_MAX]
    accented = len(telling.translate(None, ASCII))
    letters = accented + len(telling) - len(telling.translate(None, ASCII_LETTERS))
    is_latin = accented < max(ACCENTED_MIN, letters * ACCENTED_SHARE_MAX)
    matches = from_bytes(telling, cp_isolation=LATIN if is_latin else GUESSES)
    best = matches.best()
    if best is None:
        return WESTERN
    for match in matches:
        if WESTERN in match.could_be_from_charset and match.chaos <= best.chaos + WESTERN_CHAOS_MARGIN:
            return WESTERN
    return best.encoding
