"""What a check says: the promise, what was looked at, and every way in which it was broken."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Verdict:
    """The judgement on one promise."""

    name: str
    promise: str
    counts: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def demand(self, holds: object, otherwise: str) -> None:
        """Note a violation, unless it holds."""
        if not holds:
            self.violations.append(otherwise)
