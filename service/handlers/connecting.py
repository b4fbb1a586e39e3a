"""The ways in which a handler reaches the database: each on the share of connections of its caller's tenant.

Nothing is read, and nothing changed, for a caller that has not taken what was answered before: its answer would have no
room.
"""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection

from service.domain.share import holder_of
from service.handlers.authentication import caller_of
from service.handlers.parts import parts_of
from service.store.engine import Lease
from service.store.page_bytes import PAGE_BYTES_MAX


def reading(request: ASGIConnection[Any, Any, Any, Any]) -> Lease:
    """Single statements, each its own transaction.

    Raises:
        TooMuchUnread, ProcessFull: as `refuse_without_room`.
    """
    refuse_without_room(request)
    return parts_of(request).database.connect(caller_of(request).tenant_id)


def searching(request: ASGIConnection[Any, Any, Any, Any]) -> Lease:
    """A transaction for a read whose cost its caller decides: it ends after `HOLDFAST_SEARCH_SECONDS`.

    Raises:
        TooMuchUnread, ProcessFull: as `refuse_without_room`.
    """
    refuse_without_room(request)
    return parts_of(request).database.search(caller_of(request).tenant_id)


def refuse_without_room(request: ASGIConnection[Any, Any, Any, Any]) -> None:
    """Refuse a request while the answers that its caller has not taken leave no room for the largest page.

    Raises:
        TooMuchUnread, ProcessFull: see `UnsentBytes`.
    """
    parts_of(request).unsent.refuse_without_room(holder_of(caller_of(request)), PAGE_BYTES_MAX)
