"""The one place where the parts meet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from service.blobs import BlobStore
from service.cache import Cache
from service.domain.errors import DomainError
from service.domain.share import UPLOADS_MAX, UPLOADS_PER_TENANT_MAX, Shares
from service.draining import Drain
from service.handlers import (
    api_keys,
    attachments,
    context,
    deliveries,
    event_streams,
    events,
    lifecycle,
    messages,
    operations,
    reference,
    sessions,
    tool_calls,
    webhooks,
)
from service.handlers.attachments import UPLOADS
from service.handlers.authentication import Authenticator
from service.handlers.backlogs import Backlogs
from service.handlers.bodies import BODY_BYTES_MAX, HoldfastRequest
from service.handlers.cross_origin import CrossOrigin
from service.handlers.edge import Edge
from service.handlers.event_sources import find_behind
from service.handlers.parts import Parts
from service.handlers.problems import on_domain_error, on_exception, on_http_exception
from service.handlers.rate_limits import count_stranger
from service.handlers.row_quota import RowQuota
from service.handlers.waiting import Watch
from service.metrics import Metrics
from service.places import Places
from service.queue import Doorbell, RedisProbe, open_pool, open_queue
from service.rates import Rates
from service.resolver import Resolver
from service.seals import Seals
from service.settings import Settings, Switch, required_secrets
from service.store import copies
from service.store.engine import Database
from service.streams import Streams
from service.unsent import UnsentBytes
from service.wakeups import Listener, Waker

API_PATH = "/api/v1"


def create_app(settings: Settings) -> Edge:
    """The ASGI application: every part opened at start-up, closed at shutdown, and none of them global.

    Raises:
        SettingsError: there is no `HOLDFAST_SECRET`.
    """
    seals = Seals(required_secrets(settings))
    database = Database(
        settings.database_url,
        connections_max=settings.database_connections,
        tenant_connections=settings.tenant_connections,
        search_seconds=settings.search_seconds,
    )
    redis = open_queue(settings.redis_url)
    metrics = Metrics()
    drain = Drain()
    streams = Streams(partial(find_behind, database), drain, settings.tenant_streams)
    waker = Waker(redis, here=streams.wake, failures=metrics.wakeup_failures)
    listener = Listener(redis, own_name=waker.name, on_wake=streams.wake, on_change=streams.set_listening)
    metrics.streams.set_function(lambda: streams.count)
    unsent = UnsentBytes()
    metrics.unsent_bytes.set_function(lambda: unsent.count)
    cache = Cache(
        open_pool(settings.redis_url, None),
        partial(copies.read_secret, database),
        metrics,
        is_on=settings.cache is Switch.ON,
    )
    parts = Parts(
        settings=settings,
        database=database,
        authenticator=Authenticator(settings, database),
        doorbell=Doorbell(redis, failures=metrics.doorbell_failures),
        redis=RedisProbe(redis),
        metrics=metrics,
        backlogs=Backlogs(database, metrics),
        watch=Watch(database, drain, settings.tenant_waits),
        blobs=BlobStore(settings.storage_url, settings.files_folder),
        waker=waker,
        streams=streams,
        uploads=Places(Shares(UPLOADS_MAX, UPLOADS_PER_TENANT_MAX), UPLOADS),
        cache=cache,
        resolver=Resolver(),
        row_quota=RowQuota(database, settings.tenant_rows_bytes),
        seals=seals,
        unsent=unsent,
        rates=_rates(settings, metrics),
    )

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        parts.blobs.open()
        await database.open()
        cache.start()
        parts.doorbell.start()
        parts.authenticator.start()
        waker.start()
        streams.start()
        listener.start()
        try:
            yield
        finally:
            drain.start()
            await listener.stop()
            await streams.stop()
            await waker.stop()
            await parts.watch.stop()
            await parts.authenticator.stop()
            if parts.rates is not None:
                await parts.rates.stop()
            await parts.doorbell.stop()
            await cache.stop()
            await redis.aclose(close_connection_pool=True)
            await database.close()

    api = Router(
        path=API_PATH,
        route_handlers=[
            *sessions.HANDLERS,
            *lifecycle.HANDLERS,
            *messages.HANDLERS,
            *tool_calls.HANDLERS,
            *attachments.HANDLERS,
            *context.HANDLERS,
            *events.HANDLERS,
            *event_streams.HANDLERS,
            *webhooks.HANDLERS,
            *deliveries.HANDLERS,
            *api_keys.HANDLERS,
        ],
    )
    app = Litestar(
        route_handlers=[api, *operations.HANDLERS, *reference.HANDLERS],
        lifespan=[lifespan],
        state=State({"parts": parts}),
        request_class=HoldfastRequest,
        request_max_body_size=BODY_BYTES_MAX,
        before_request=count_stranger,  # of routes that are open to all; the others have one of their own
        exception_handlers={
            DomainError: on_domain_error,
            HTTPException: on_http_exception,
            Exception: on_exception,
        },
        openapi_config=None,
        logging_config=None,
    )
    cross_origin = CrossOrigin(settings.origins) if settings.origins else None
    return Edge(app, metrics, drain, unsent, cross_origin, settings.metrics_port)


def _rates(settings: Settings, metrics: Metrics) -> Rates | None:
    if settings.rate_limit is settings.tenant_rate_limit is settings.bad_credentials is None:
        return None
    return Rates(
        settings.redis_url,
        per_caller=settings.rate_limit,
        per_tenant=settings.tenant_rate_limit,
        bad_credentials=settings.bad_credentials,
        failures=metrics.rate_failures,
    )
