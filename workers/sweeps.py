"""Sweeps: what is done every few seconds by asking PostgreSQL alone, whether or not Redis is there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from service.domain.errors import DomainError
from service.log import get_logger

LOG = get_logger("sweep")


class Sweep(msgspec.Struct, frozen=True):
    """Something to do again and again; each run takes up whatever earlier ones left."""

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[object]]


async def sweep_until(stop: asyncio.Event, sweep: Sweep) -> None:
    """Run `sweep` now and every `every_seconds` until `stop` is set. A failed run is logged and run again."""
    in_trouble = False
    while not stop.is_set():
        try:
            await sweep.run()
        except DomainError as error:
            if not in_trouble:
                LOG.warning("sweep.postponed", sweep=sweep.name, code=error.code)
            in_trouble = True
        except Exception:  # one broken sweep must not end the others
            LOG.exception("sweep.broke", sweep=sweep.name)
        else:
            if in_trouble:
                LOG.info("sweep.resumed", sweep=sweep.name)
            in_trouble = False
        try:
            await asyncio.wait_for(stop.wait(), timeout=sweep.every_seconds)
        except TimeoutError:
            continue
