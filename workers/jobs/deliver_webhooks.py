"""Delivers webhooks: claims what is due, sends each once, records what came of it.

The doorbell only says that there is something to do; what is found by query, so a lost bell, an emptied Redis or a
worker that died costs seconds. An endpoint that hangs keeps five attempts at the most, and one once it has failed.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

from service import faults
from service.commands.deliveries import claim_deliveries, drop_purged, record_attempt
from service.domain.delivery import DeliveryStatus, Outcome, Verdict
from service.domain.errors import DomainError
from service.faults import Point
from service.log import get_logger
from service.store import deliveries
from service.store.deliveries import Claim
from service.store.engine import Database
from workers.egress import Egress
from workers.sending import attempt

SLOTS = 200
"""Attempts at once, most of which wait for somebody: 200 endpoints that hang fill them, at 40 kB each."""

SWEEP_SECONDS = 1.0
"""What a lost doorbell costs at the most, and how late a retry may be."""

CLAIM_INTERVAL_SECONDS = 0.01
"""Between two claims: what has ended or come meanwhile is made good by one, instead of by one each."""

RENEWAL_SECONDS = 3.0
"""A third of the lease: two renewals may get lost."""

STOP_SECONDS = 10.0
"""What running attempts get to finish at a stop; those that do not are given back at once."""

LOG = get_logger("delivery")


class Deliveries:
    """The attempts of one worker process."""

    def __init__(self, database: Database, egress: Egress) -> None:
        self._database = database
        self._egress = egress
        self._woken = asyncio.Event()
        self._running: dict[asyncio.Task[None], Claim] = {}
        self._in_trouble = False

    def wake(self) -> None:
        """Look for work soon."""
        self._woken.set()

    async def work_until(self, stop: asyncio.Event) -> None:
        """Deliver whatever is due, when woken and every second, until `stop` is set; then finish or give back."""
        stopping = asyncio.create_task(stop.wait())
        renewing = asyncio.create_task(self._renew())
        try:
            while not stop.is_set():
                self._woken.clear()
                await self._fill_slots()
                await asyncio.sleep(CLAIM_INTERVAL_SECONDS)
                waking = asyncio.create_task(self._woken.wait())
                await asyncio.wait([stopping, waking], timeout=SWEEP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
        finally:
            stopping.cancel()
            await self._finish_or_give_back()
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
            await self._egress.close()

    async def _fill_slots(self) -> None:
        free = SLOTS - len(self._running)
        if not free:
            return
        try:
            async with self._database.begin() as tx:
                claims = await claim_deliveries(tx, free)
        except DomainError as error:
            self._note_trouble(error)
            return
        except Exception:  # the next sweep tries again
            LOG.exception("delivery.broke")
            return
        self._in_trouble = False
        for claim in claims:
            task = asyncio.create_task(self._deliver(claim), name="delivery")
            self._running[task] = claim
            task.add_done_callback(self._free_slot)

    def _free_slot(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._woken.set()  # a place at its endpoint is free, and the next of its session may go

    async def _deliver(self, claim: Claim) -> None:
        try:
            if claim.event is None and claim.test_event is None:
                async with self._database.begin() as tx:
                    await drop_purged(tx, claim)
                return
            outcome = await attempt(self._egress, claim)
            faults.reach(Point.AFTER_PUSH)
            async with self._database.begin() as tx:
                verdict = await record_attempt(tx, claim, outcome, random.random())  # noqa: S311 - jitter, no secret
        except DomainError as error:  # its lease runs out, and it is sent again
            self._note_trouble(error)
        except Exception:  # one delivery must not end the others
            LOG.exception("delivery.broke", **_named(claim))
        else:
            _log(claim, outcome, verdict)

    async def _renew(self) -> None:
        """Keep the leases of what runs."""
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            held = list(self._running.values())
            if not held:
                continue
            try:
                async with self._database.connect() as tx:
                    await deliveries.renew(tx, held)
            except DomainError as error:
                self._note_trouble(error)
            except Exception:  # the next one may do
                LOG.exception("delivery.broke")

    async def _finish_or_give_back(self) -> None:
        running = dict(self._running)
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in late:
            with suppress(DomainError):
                async with self._database.connect() as tx:
                    await deliveries.give_back(tx, running[task])

    def _note_trouble(self, error: DomainError) -> None:
        if not self._in_trouble:
            LOG.warning("delivery.postponed", code=error.code)
        self._in_trouble = True


def _log(claim: Claim, outcome: Outcome, verdict: Verdict | None) -> None:
    if verdict is None:
        LOG.info("delivery.claim_lost", **_named(claim))
        return
    LOG.info(
        "delivery.attempted",
        status=verdict.status,
        attempt=claim.attempt,
        response_status=outcome.response_status,
        error=outcome.error,
        duration_ms=outcome.latency_ms,
        **_named(claim),
    )
    if verdict.status is DeliveryStatus.FAILED:
        LOG.warning("delivery.given_up", attempts=claim.attempt, **_named(claim))
    if verdict.disables is not None:
        LOG.warning("webhook.disabled", webhook_id=claim.endpoint_id, reason=verdict.disables)


def _named(claim: Claim) -> dict[str, Any]:
    return {
        "webhook_id": claim.endpoint_id,
        "delivery_id": claim.delivery_id,
        "event_id": claim.event_id,
        "request_id": None if claim.event is None else claim.event.request_id,
    }


async def deliver_webhooks(ctx: dict[str, Any]) -> None:
    """The job that the doorbell asks for."""
    found: Deliveries = ctx["deliveries"]
    found.wake()
