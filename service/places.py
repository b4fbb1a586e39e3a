"""The places of a process for what stays open: streams, waits, uploads, counted by tenant and by caller."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import TypeVar, assert_never

import msgspec

from service.domain.errors import DomainError, ProcessFull, RateLimited
from service.domain.share import Full, Holder, Shares, limit_reached

Key = TypeVar("Key", bound=Hashable)


class Wording(msgspec.Struct, frozen=True):
    """What takes the places, and what a caller can do that gets none; `too_many` refuses for its own share."""

    what: str
    instead: str
    too_many: type[RateLimited]


class Places:
    """The places that are taken."""

    def __init__(self, shares: Shares, wording: Wording) -> None:
        self._shares = shares
        self._wording = wording
        self._tenants: Counter[str] = Counter()
        self._callers: Counter[Holder] = Counter()
        self.count = 0
        """How many places are taken."""

    def take(self, holder: Holder) -> None:
        """Take a place; `give_back` ends it.

        Raises:
            RateLimited: the caller, or its tenant, has as many places as it may in one process.
            ProcessFull: no place is left, or none that this tenant may take.
        """
        full = limit_reached(
            self._shares,
            taken=self.count,
            by_tenant=self._tenants[holder.tenant_id],
            by_caller=self._callers[holder],
        )
        if full is not None:
            raise self._refusal(full)
        self._tenants[holder.tenant_id] += 1
        self._callers[holder] += 1
        self.count += 1

    def _refusal(self, full: Full) -> DomainError:
        what, instead, shares = self._wording.what, self._wording.instead, self._shares
        match full:
            case Full.PROCESS:
                return ProcessFull(f"This process has {shares.process:,} {what} open and takes no more now; {instead}.")
            case Full.RESERVE:
                return ProcessFull(
                    f"This process keeps its last {shares.reserve:,} places for tenants that have few {what}; "
                    f"{instead}."
                )
            case Full.TENANT:
                return self._wording.too_many(
                    f"Your tenant has {shares.tenant:,} {what} open in this process, as many as one tenant may; "
                    "close some first."
                )
            case Full.CALLER:
                return self._wording.too_many(
                    f"You have {shares.caller:,} {what} open in this process, as many as one caller may; "
                    "close some first."
                )
            case _:
                assert_never(full)

    @contextmanager
    def held(self, holder: Holder) -> Iterator[None]:
        """Hold a place for as long as the block runs; raises as `take` does."""
        self.take(holder)
        try:
            yield
        finally:
            self.give_back(holder)

    def give_back(self, holder: Holder) -> None:
        """End what `take` began."""
        self.count -= 1
        _count_down(self._tenants, holder.tenant_id)
        _count_down(self._callers, holder)


def _count_down(counted: Counter[Key], key: Key) -> None:
    counted[key] -= 1
    if not counted[key]:
        del counted[key]
