"""What every handler may reach: the parts that `create_app` put together."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar.connection import ASGIConnection

from service.blobs import BlobStore
from service.cache import Cache
from service.handlers.authentication import Authenticator
from service.handlers.backlogs import Backlogs
from service.handlers.row_quota import RowQuota
from service.handlers.waiting import Watch
from service.metrics import Metrics
from service.places import Places
from service.queue import Doorbell, RedisProbe
from service.rates import Rates
from service.resolver import Resolver
from service.seals import Seals
from service.settings import Settings
from service.store.engine import Database
from service.streams import Streams
from service.unsent import UnsentBytes
from service.wakeups import Waker


class Parts(msgspec.Struct, frozen=True):
    """The database, the doorbell and the rest, opened once per process."""

    settings: Settings
    database: Database
    authenticator: Authenticator
    doorbell: Doorbell
    redis: RedisProbe
    metrics: Metrics
    backlogs: Backlogs
    watch: Watch
    blobs: BlobStore
    waker: Waker
    streams: Streams
    uploads: Places
    cache: Cache
    resolver: Resolver
    row_quota: RowQuota
    seals: Seals
    unsent: UnsentBytes
    rates: Rates | None = None


def parts_of(request: ASGIConnection[Any, Any, Any, Any]) -> Parts:
    """The parts of the app that got this request."""
    parts: Parts = request.app.state.parts
    return parts
