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
from service.store import schema


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
    await parts.backlogs.refresh()
    return Response(content=generate_latest(parts.metrics.registry), media_type=CONTENT_TYPE_PLAIN_0_0_4)


HANDLERS = [live, ready, metrics]
