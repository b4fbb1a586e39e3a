"""Bytes of answers that clients have not taken yet, counted by tenant and by caller.

An answer that is made whole stands in memory until its client has taken it. These limits keep slow clients, and clients
that read nothing, from filling the memory of a process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import TypeVar, assert_never

from service.domain.errors import DomainError, ProcessFull, TooMuchUnread
from service.domain.share import Full, Holder, Shares, limit_reached

Key = TypeVar("Key", bound=Hashable)

MEBIBYTE = 1024 * 1024

UNSENT_BYTES_MAX = 256 * MEBIBYTE
"""Of one process: a quarter of the memory that the compose file gives it. 32 of the largest pages wait in it."""

UNSENT_BYTES_PER_TENANT_MAX = UNSENT_BYTES_MAX // 4
"""Of one tenant in one process: eight of the largest pages, or hundreds of ordinary ones."""

SHARES = Shares(UNSENT_BYTES_MAX, UNSENT_BYTES_PER_TENANT_MAX)

COUNTED_BYTES_MIN = 16 * 1024
"""Smaller answers are not counted: a connection takes as much memory in any case."""


class UnsentBytes:
    """The answers of one process that wait for their clients."""

    def __init__(self, shares: Shares = SHARES) -> None:
        self._shares = shares
        self._tenants: Counter[str] = Counter()
        self._callers: Counter[Holder] = Counter()
        self.count = 0
        """How many bytes wait."""

    def refuse_without_room(self, holder: Holder, size: int) -> None:
        """Refuse a request whose answer may have `size` bytes, before anything is read for it.

        A tenant of whose answers few bytes wait is refused only where the process has no room at all.

        Raises:
            TooMuchUnread, ProcessFull: as `add`.
        """
        if self.count:
            has_few = self._tenants[holder.tenant_id] < self._shares.few
            self._refuse_beyond(holder, 1 if has_few else size)

    def add_fitting(self, holder: Holder, size: int) -> None:
        """Count an answer of `size` bytes, if it fits; `take_off` ends it.

        Raises:
            TooMuchUnread: the caller, or its tenant, has not taken as many bytes as it may leave in one process.
            ProcessFull: the process has no room left, or none for this tenant.
        """
        self._refuse_beyond(holder, size)
        self.add(holder, size)

    def add(self, holder: Holder, size: int) -> None:
        """Count an answer that must be sent, whether it fits or not: it tells of a change that is made."""
        self.count += size
        self._tenants[holder.tenant_id] += size
        self._callers[holder] += size

    def take_off(self, holder: Holder, size: int) -> None:
        """End what `add` or `add_fitting` began."""
        self.count -= size
        _subtract(self._tenants, holder.tenant_id, size)
        _subtract(self._callers, holder, size)

    def _refuse_beyond(self, holder: Holder, size: int) -> None:
        before_its_last = size - 1  # `limit_reached` judges one more
        full = limit_reached(
            self._shares,
            taken=self.count + before_its_last,
            by_tenant=self._tenants[holder.tenant_id] + before_its_last,
            by_caller=self._callers[holder] + before_its_last,
        )
        if full is not None:
            raise self._refusal(full)

    def _refusal(self, full: Full) -> DomainError:
        match full:
            case Full.PROCESS:
                return ProcessFull("Too many answers of this process wait for slow clients; try again.")
            case Full.RESERVE:
                return ProcessFull(
                    "Too many answers of this process wait for slow clients, and what room is left is for tenants of "
                    "whose answers few wait; take the answers that you have asked for, and try again."
                )
            case Full.TENANT:
                return TooMuchUnread(
                    f"Your tenant may leave {self._shares.tenant // MEBIBYTE} MiB of answers of this process unread, "
                    "and this one would be more; take those that it has asked for first."
                )
            case Full.CALLER:
                return TooMuchUnread(
                    f"You may leave {self._shares.caller // MEBIBYTE} MiB of answers of this process unread, and this "
                    "one would be more; take those that you have asked for first."
                )
            case _:
                assert_never(full)


def _subtract(counted: Counter[Key], key: Key, size: int) -> None:
    counted[key] -= size
    if not counted[key]:
        del counted[key]
