"""What operators look at: is it alive, is it ready, what does it count."""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus

import msgspec
from litestar import MediaType, Response, get
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from service.domain.errors import Unavailable
from service.handlers.bodies import HoldfastRequest
from service.handlers.encoding import respond
from service.handlers.openapi import ALSO
from service.handlers.parts import Parts, parts_of
from service.store import copies, deliveries, heartbeats, inspections, outbox, row_estimates, schema

TENANTS_SHOWN_MAX = 20
"""Tenants that the metrics name: those with the most bytes of rows. A series for each of them all would be too many."""


class Health(StrEnum):
    """How a part is."""

    OK = "ok"
    AWAY = "away"
    OUTDATED = "outdated"


class Overall(StrEnum):
    """Whether requests can be served: `degraded` means yes, more slowly to react, because Redis is away."""

    READY = "ready"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


class Readiness(msgspec.Struct, frozen=True):
    """How the whole is, and its parts."""

    status: Overall
    postgresql: Health
    redis: Health


class Liveness(msgspec.Struct, frozen=True):
    """This process answers."""

    status: str = "alive"


@get("/health/live", operation_id="isAlive", tags=["operations"])
async def live() -> Response[Liveness]:
    """Say that this process answers. It asks nobody else."""
    return respond(Liveness())


@get(
    "/health/ready",
    opt={ALSO: {503: "PostgreSQL is away, or its schema is not current."}},
    operation_id="isReady",
    tags=["operations"],
)
async def ready(request: HoldfastRequest) -> Response[Readiness]:
    """Say whether requests can be served: 503 while PostgreSQL is away or its schema is not current."""
    parts = parts_of(request)
    postgresql = await _postgresql(parts)
    redis = Health.OK if await parts.redis.answers() else Health.AWAY
    if postgresql is not Health.OK:
        overall, status = Overall.UNAVAILABLE, HTTPStatus.SERVICE_UNAVAILABLE
    else:
        overall, status = (Overall.READY if redis is Health.OK else Overall.DEGRADED), HTTPStatus.OK
    return respond(Readiness(overall, postgresql, redis), status=status.value)


async def _postgresql(parts: Parts) -> Health:
    try:
        async with parts.database.connect() as tx:
            return Health.OK if await schema.is_current(tx) else Health.OUTDATED
    except Unavailable:
        return Health.AWAY


@get("/metrics", media_type=MediaType.TEXT, operation_id="metrics", tags=["operations"])
async def metrics(request: HoldfastRequest) -> Response[bytes]:
    """Give the counters in Prometheus' text format; the outbox and the workers are read from PostgreSQL."""
    parts = parts_of(request)
    counted = parts.metrics
    try:
        async with parts.database.connect() as tx:
            backlog = await outbox.backlog(tx)
            waiting = await inspections.backlog(tx)
            due = await deliveries.backlog(tx)
            sampled = await copies.counted(tx)
            silence = await heartbeats.silence_seconds(tx)
            largest = await row_estimates.largest(tx, TENANTS_SHOWN_MAX)
            locks = await heartbeats.locks(tx)
    except Unavailable:
        counted.postgresql_up.set(0)
    else:
        counted.postgresql_up.set(1)
        counted.outbox_waiting.set(backlog.waiting)
        counted.outbox_oldest_seconds.set(backlog.oldest_seconds)
        counted.attachments_waiting.set(waiting.files)
        counted.attachments_oldest_seconds.set(waiting.oldest_seconds)
        counted.webhooks_waiting.set(due.deliveries)
        counted.webhooks_oldest_seconds.set(due.oldest_seconds)
        counted.set_cache_counted(sampled.sampled_total, sampled.stale_total)
        counted.set_relayed_total(backlog.relayed_total)
        counted.tenant_row_bytes.clear()
        for tenant_id, size in largest.items():
            counted.tenant_row_bytes.labels(tenant_id).set(size)
        counted.worker_silence_seconds.clear()
        for queue, seconds in silence.items():
            counted.worker_silence_seconds.labels(queue).set(seconds)
        counted.inspection_lock.clear()
        for lock, holds in locks.items():
            counted.inspection_lock.labels(lock).set(holds)
    return Response(content=generate_latest(counted.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


HANDLERS = [live, ready, metrics]
