"""Something that goes wrong, as it is planned and as it happened."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: with which part, in which way, for how long."""

    part: str
    way: str
    seconds: float
    detail: str = ""

    @property
    def kind(self) -> str:
        """Under which it is counted: the parts of one sort together."""
        return f"{self.part.rstrip('0123456789')}: {self.way}"

    def __str__(self) -> str:
        return f"{self.part} {self.way}{f' ({self.detail})' if self.detail else ''}, {self.seconds:.1f} s"


@dataclass
class Struck:
    """A fault as it happened."""

    fault: Fault
    phase: str
    struck_at: float
    mended_at: float = float("inf")
    was_reached: bool = True
    """False for a fault point that nothing passed while it was armed."""
