"""Where in a JSON text the character stands that cannot be taken: its byte, and the field that holds it.

Half of an emoji is what remains where a program cuts a string by UTF-16 units, as JavaScript's `slice` does. A parser
only says that the text is truncated, or nothing of where; so the text is mended, parsed, and searched for the mends.
All of this is done for texts that have been refused already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

import msgspec

from service.domain.errors import Fault
from service.domain.json_text import HAS_NUL, NOT_UTF8, NUL_ESCAPE, fault_of, parsed
from service.domain.near_names import shown

MARK = "\ufdd0"
"""A noncharacter (Unicode, section 23.7): no honest text holds it. Where one does, no field is named."""

REPLACEMENT = "\ufffd"
"""How a mend in a name is shown."""

RAW_MARK, ESCAPED_MARK = MARK.encode(), b"\\ufdd0"
MARKED = re.compile(RAW_MARK + rb"|\\ufdd0", re.IGNORECASE)

PLACED_BYTES_MAX = 256 * 1024
"""What is searched for the field: up to 80 ms (measured). In longer texts the byte has to do."""

FLAWS_MAX = 100
"""Of one text. More are one mistake: the first of them is named, and no field."""

UNIT = rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
PAIR = rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
LONE_SURROGATE = re.compile(rb"(?:[^\\]|\\[^u]|\\u(?![dD][89a-fA-F])|" + PAIR + rb")*+(" + UNIT + rb")", re.DOTALL)
"""The next escape of half a character, behind all that is whole."""

RAW_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
"""The same, encoded as though it were a character."""

HALF = (
    "Half of a character: {found} at byte {start} is a surrogate without its other half, as when text is cut in the "
    "middle of an emoji. Cut it between characters, or replace the half (in JavaScript with toWellFormed())"
)


class Flaw(msgspec.Struct, frozen=True):
    """Bytes that cannot be taken, from `start` up to, and without, `end`; `mend` makes valid JSON of them."""

    start: int
    end: int
    message: str
    mend: bytes


def faults_of(text: bytes, path: str) -> list[Fault]:
    """The first rule of `json_text` that `text` breaks, with every place where it does; none: it may be parsed."""
    fault = fault_of(text)
    if fault is None:
        return []
    if fault == NOT_UTF8:
        return _placed(text, _some(_broken_bytes(text)), path)
    if fault == HAS_NUL:
        return _placed(text, _some(_nuls(text)), path)
    return [Fault(path, fault)]


def faults_of_unparsed(text: bytes, error: Exception, path: str) -> list[Fault]:
    """Why `text`, which breaks no rule of `json_text`, is no JSON; `error` is what the parser said."""
    flaws = _some(_lone_surrogates(text))
    if flaws:
        try:
            parsed(_mended(text, flaws))
        except (msgspec.DecodeError, RecursionError) as other:
            error = other
        else:
            return _placed(text, flaws, path)
        if len(flaws) > FLAWS_MAX:
            return [Fault(path, flaws[0].message)]
    said = str(error).removeprefix("JSON is malformed: ") if isinstance(error, msgspec.DecodeError) else "malformed"
    return [Fault(path, f"Not JSON: {said}")]


def _some(flaws: Iterator[Flaw]) -> list[Flaw]:
    """As many as are looked at, and one more where there are more."""
    return list(islice(flaws, FLAWS_MAX + 1))


def _broken_bytes(text: bytes) -> Iterator[Flaw]:
    start = 0
    while start < len(text):
        try:
            text[start:].decode()
        except UnicodeDecodeError as error:
            at = start + error.start
            half = RAW_SURROGATE.match(text, at)
            start = half.end() if half else start + error.end
            found = " ".join(f"0x{byte:02X}" for byte in text[at:start])
            message = HALF.format(found=found, start=at) if half else f"{NOT_UTF8}: {found} at byte {at}"
            yield Flaw(at, start, message, RAW_MARK)
        else:
            return


def _nuls(text: bytes) -> Iterator[Flaw]:
    for found in NUL_ESCAPE.finditer(text):
        start = found.end() - len(ESCAPED_MARK)
        yield Flaw(start, found.end(), f"{HAS_NUL}, as at byte {start}", ESCAPED_MARK)


def _lone_surrogates(text: bytes) -> Iterator[Flaw]:
    end = 0
    while (found := LONE_SURROGATE.match(text, end)) is not None:
        start, end = found.span(1)
        yield Flaw(start, end, HALF.format(found=f"`{found[1].decode()}`", start=start), ESCAPED_MARK)


def _mended(text: bytes, flaws: list[Flaw]) -> bytes:
    pieces, end = [], 0
    for flaw in flaws:
        pieces += [text[end : flaw.start], flaw.mend]
        end = flaw.end
    return b"".join([*pieces, text[end:]])


def _placed(text: bytes, flaws: list[Flaw], path: str) -> list[Fault]:
    """The first flaw of each field that holds any; of the whole text where the fields cannot be told."""
    places: list[tuple[str, int]] = []
    if len(text) <= PLACED_BYTES_MAX and len(flaws) <= FLAWS_MAX and MARKED.search(text) is None:
        try:
            _search(parsed(_mended(text, flaws)), [path], places)
        except (msgspec.DecodeError, RecursionError):
            places = []
    if sum(count for _, count in places) != len(flaws):  # of two equal keys, the parser keeps the last one only
        return [Fault(path, flaws[0].message)]
    faults, passed = [], 0
    for place, count in places:
        faults.append(Fault(place, flaws[passed].message))
        passed += count
    return faults


def _search(value: Any, parts: list[str], places: list[tuple[str, int]]) -> None:
    """Note where `value` holds marks, and how many, in the order of the text; a name's are its object's."""
    if isinstance(value, str):
        if MARK in value:
            places.append(("".join(parts), value.count(MARK)))
    elif isinstance(value, dict):
        for name, entry in value.items():
            if MARK in name:
                places.append(("".join(parts), name.count(MARK)))
            parts.append("." + shown(name.replace(MARK, REPLACEMENT)))
            _search(entry, parts, places)
            parts.pop()
    elif isinstance(value, list):
        for place, entry in enumerate(value):
            parts.append(f"[{place}]")
            _search(entry, parts, places)
            parts.pop()
