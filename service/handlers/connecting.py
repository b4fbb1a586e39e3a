"""The ways in which a handler reaches the database: each on the share of connections of its caller's tenant."""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection

from service.handlers.authentication import caller_of
from service.handlers.parts import parts_of
from service.store.engine import Lease


def reading(request: ASGIConnection[Any, Any, Any, Any]) -> Lease:
    """Single statements, each its own transaction."""
    return parts_of(request).database.connect(caller_of(request).tenant_id)


def searching(request: ASGIConnection[Any, Any, Any, Any]) -> Lease:
    """A transaction for a read whose cost its caller decides: it ends after `HOLDFAST_SEARCH_SECONDS`."""
    return parts_of(request).database.search(caller_of(request).tenant_id)
