"""How the places of a process are shared out: by tenant, and a tenant's by caller.

A place is what a stream, a wait or an upload takes for as long as it is open. No tenant takes more than its share, and
the last tenth of all places goes to tenants that have few, so that two large tenants do not shut out a third.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

import msgspec

from service.domain.caller import Caller, CallerKind

STREAMS_MAX = 2000
"""Of one process: at 30 KiB each 60 MB, and twice what was measured to be carried with ease."""

WAITS_MAX = 2000
"""Of one process: each holds a connection and a task, some 30 KiB, and all of them one read in 200 ms."""

UPLOADS_MAX = 200
"""Of one process: each holds a connection, and up to 5 MiB until they go to the store in one piece: 1 GB in all."""

STREAMS_PER_TENANT_MAX = STREAMS_MAX // 2
"""Of one tenant in one process: half, so that no tenant takes all places, however many credentials it has."""

WAITS_PER_TENANT_MAX = WAITS_MAX // 2
"""Of one tenant in one process, as of streams."""

UPLOADS_PER_TENANT_MAX = UPLOADS_MAX // 2
"""Of one tenant in one process, as of streams."""

CALLER_PART = 0.5
"""A caller has at most half of its tenant's places, so one key does not take those of all its tenant's users."""

RESERVE_PART = 0.1
"""A tenth of all places is kept for tenants that have few, 200 of 2,000: two large tenants do not shut out a third."""

FEW_PART = 0.1
"""A tenant has few places while it has less than a tenth of the reserve: 20 of 200."""


class Holder(NamedTuple):
    """The caller that holds a place."""

    tenant_id: str
    kind: CallerKind
    subject: str


class Full(Enum):
    """Which limit leaves no place."""

    PROCESS = auto()
    RESERVE = auto()
    TENANT = auto()
    CALLER = auto()


class Shares(msgspec.Struct, frozen=True):
    """How many places there are in a process, and how many of them one tenant may hold."""

    process: int
    tenant: int

    @property
    def caller(self) -> int:
        """How many places one caller may hold."""
        return max(1, int(self.tenant * CALLER_PART))

    @property
    def reserve(self) -> int:
        """How many places are kept for tenants that have few."""
        return int(self.process * RESERVE_PART)

    @property
    def few(self) -> int:
        """A tenant with fewer places than this may take one of the reserve."""
        return max(1, int(self.reserve * FEW_PART))


def holder_of(caller: Caller) -> Holder:
    """The holder of the places that `caller` takes."""
    return Holder(caller.tenant_id, caller.kind, caller.subject)


def limit_reached(shares: Shares, *, taken: int, by_tenant: int, by_caller: int) -> Full | None:
    """The limit that forbids one more place; None: it may be taken."""
    if taken >= shares.process:
        return Full.PROCESS
    if by_caller >= shares.caller:
        return Full.CALLER
    if by_tenant >= shares.tenant:
        return Full.TENANT
    if shares.process - taken <= shares.reserve and by_tenant >= shares.few:
        return Full.RESERVE
    return None
