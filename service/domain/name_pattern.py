"""Patterns of names, in which `*` stands for any characters or none, `?` for one, and every other for itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence


class NamePatterns:
    """Patterns that are compared with a name all at once, in one pass over it and without going back.

    A pattern without its `*` is a row of characters to be met. Each pattern has one bit for every count of them, from
    none to all; the bits of all patterns lie side by side in one integer. A bit that is set after some characters of a
    name says that these characters can be what the pattern asks for up to there. So a character of the name costs a
    few operations on an integer of as many bits as the patterns have characters (Shift-And, Baeza-Yates and Gonnet,
    "A new approach to text searching", 1992).
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._firsts: list[int] = []
        """The number of the first bit of each pattern."""
        self._begun = self._done = self._stays = self._any = 0
        self._literals: dict[str, int] = {}
        bit = 0
        for pattern in patterns:
            self._firsts.append(bit)
            self._begun |= 1 << bit
            for character in pattern:
                bit = self._add(character, bit)
            self._done |= 1 << bit
            bit += 1

    def _add(self, character: str, bit: int) -> int:
        """Note what leads on from `bit`; the number of the bit that it leads to."""
        if character == "*":
            self._stays |= 1 << bit
            return bit
        if character == "?":
            self._any |= 1 << bit
        else:
            self._literals[character] = self._literals.get(character, 0) | 1 << bit
        return bit + 1

    def matching(self, name: str) -> Iterator[int]:
        """The places of the patterns that match `name`, in their order."""
        return self._places_of(self._after(name) & self._done)

    def matching_longer(self, beginning: str) -> Iterator[int]:
        """The places of the patterns that match `beginning` or any name that begins so, in their order."""
        return self._places_of(self._after(beginning))

    def _after(self, name: str) -> int:
        bits = self._begun
        for character in name:
            met = bits & (self._literals.get(character, 0) | self._any)
            bits = met << 1 | bits & self._stays
            if not bits:
                break
        return bits

    def _places_of(self, bits: int) -> Iterator[int]:
        while bits:
            lowest = (bits & -bits).bit_length() - 1
            place = bisect_right(self._firsts, lowest) - 1
            yield place
            following = place + 1
            if following == len(self._firsts):
                return
            bits = bits >> self._firsts[following] << self._firsts[following]
