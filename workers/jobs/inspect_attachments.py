"""Inspects files: one claim at a time in each place, its lease renewed while it lasts, its end recorded once.

The doorbell only says that there is something to do; what is found by query, so a lost bell, an emptied Redis or a
worker that died costs seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn
from uuid import UUID

from service.announcements import Announcement
from service.blobs import BlobStore
from service.commands.inspections import INTERRUPTED, claim_attachment, is_given_up, record_outcome
from service.domain.attachment import INSPECTIONS_MAX, PATIENCE_SECONDS, AttachmentStatus, Outcome, tenant_share
from service.domain.errors import DomainError
from service.log import get_logger
from service.store import inspections
from service.store.engine import Database
from service.store.inspections import Claim
from workers.examiner import Examiner, Postponed, Product, Progress

SWEEP_SECONDS = 5.0
"""What a lost doorbell costs at the most."""

RENEWAL_SECONDS = 1.0
"""How often people see progress; a tenth of the lease, so that many renewals may get lost."""

POSTPONED_SECONDS = 30.0
"""When what a file needs is away, it is asked for again after this time."""

STOP_SECONDS = 10.0
"""What running inspections get to finish at a stop; those that do not are given back at once."""

LOG = get_logger("inspection")


class ClaimLost(Exception):
    """The lease ran out and somebody else has the file now, or the file is gone."""


class Inspections:
    """The places of one worker process for files. `on_recorded` is called with the session after each commit

    that may have recorded an event. Each worker keeps a place free of its own accord, so it holds for any number of
    workers, and needs no word between them.
    `may_be_weak`: files are read even where some locks of the child do not hold.
    """

    def __init__(
        self,
        database: Database,
        store: BlobStore,
        scanner: tuple[str, int] | None,
        on_recorded: Callable[[UUID], None] | None = None,
        places: int = INSPECTIONS_MAX,
        *,
        may_be_weak: bool = False,
    ) -> None:
        self._database = database
        self._store = store
        self._places = places
        self._by_tenant: Counter[str] = Counter()
        """How many files of each tenant this worker looks into now."""
        self._claiming = asyncio.Lock()
        self._examiner = Examiner(database, store, scanner, may_be_weak=may_be_weak)
        self._on_recorded = on_recorded
        self._woken = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._in_trouble = False

    def wake(self) -> None:
        """Look for work soon."""
        self._woken.set()

    async def work_until(self, stop: asyncio.Event) -> None:
        """Inspect whatever is due, when woken and every few seconds, until `stop` is set; then finish or give back."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set():
                self._woken.clear()
                self._fill_places(stop)
                waking = asyncio.create_task(self._woken.wait())
                await asyncio.wait([stopping, waking], timeout=SWEEP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                waking.cancel()
        finally:
            stopping.cancel()
            if self._running:
                await asyncio.wait(self._running, timeout=STOP_SECONDS)
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def _fill_places(self, stop: asyncio.Event) -> None:
        for _ in range(self._places - len(self._running)):
            task = asyncio.create_task(self._inspect_due(stop), name="inspection")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _inspect_due(self, stop: asyncio.Event) -> None:
        """One file after the other, until none is due."""
        try:
            while not stop.is_set():
                claim = await self._claim()
                if claim is None:
                    return
                try:
                    await self._inspect(claim)
                finally:
                    self._release(claim.tenant_id)
                self._in_trouble = False
        except DomainError as error:
            if not self._in_trouble:
                LOG.warning("inspection.postponed", code=error.code)
            self._in_trouble = True
        except Exception:  # one file must not end the place; its lease runs out, and it counts as an attempt
            LOG.exception("inspection.broke")

    async def _claim(self) -> Claim | None:
        """The next file of a tenant that has places left; one claim after the other, so that each counts the others."""
        async with self._claiming:
            share = tenant_share(self._places)
            full = [tenant_id for tenant_id, files in self._by_tenant.items() if files >= share]
            async with self._database.begin() as tx:
                claim = await claim_attachment(tx, full)
            if claim is not None:
                self._by_tenant[claim.tenant_id] += 1
            return claim

    def _release(self, tenant_id: str) -> None:
        if self._by_tenant[tenant_id] >= tenant_share(self._places):
            self.wake()  # places that this tenant could not take may stand empty
        self._by_tenant[tenant_id] -= 1
        if not self._by_tenant[tenant_id]:
            del self._by_tenant[tenant_id]

    async def _inspect(self, claim: Claim) -> None:
        began = time.monotonic()
        if is_given_up(claim):
            await self._record(claim, Product(INTERRUPTED), began)
            return
        async with Announcement(self._database, self._store) as announcement:
            await self._look(claim, announcement, began)

    async def _look(self, claim: Claim, announcement: Announcement, began: float) -> None:
        progress = Progress()
        looking = asyncio.create_task(self._examiner.examine(claim, progress, announcement))
        keeping = asyncio.create_task(self._keep(claim, progress))
        try:
            await asyncio.wait([looking, keeping], return_when=asyncio.FIRST_COMPLETED)
            # The claim's keeper ends only by raising: it was lost, or PostgreSQL is away.
            product = await (looking if looking.done() else keeping)
        except Postponed as postponed:
            await self._postpone(claim, postponed, began)
            return
        except ClaimLost:
            LOG.info("inspection.claim_lost", **_named(claim))
            return
        except asyncio.CancelledError:
            await self._give_back(claim)
            raise
        finally:
            keeping.cancel()
            looking.cancel()
            await _ended(keeping, looking)
        await announcement.confirm()
        await self._record(claim, product, began)

    async def _keep(self, claim: Claim, progress: Progress) -> NoReturn:
        """Renew the lease until it is lost.

        Raises:
            ClaimLost: somebody else has the file now, or it is gone.
            Unavailable: PostgreSQL is away.
        """
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            async with self._database.connect() as tx:
                kept = await inspections.renew(tx, claim, progress.news())
            if not kept:
                raise ClaimLost

    async def _record(self, claim: Claim, product: Product, began: float) -> None:
        async with self._database.begin() as tx:
            recorded = await record_outcome(tx, claim, product.outcome, text=product.text, thumbnail=product.thumbnail)
        if not recorded:
            LOG.info("inspection.claim_lost", **_named(claim))
            return
        if self._on_recorded is not None:
            self._on_recorded(claim.session_id)
        LOG.info(
            "inspection.ended",
            status=product.outcome.status,
            attempt=claim.attempt,
            duration_ms=round((time.monotonic() - began) * 1000, 1),
            **_named(claim),
        )

    async def _postpone(self, claim: Claim, postponed: Postponed, began: float) -> None:
        if claim.waited_seconds > PATIENCE_SECONDS:
            outcome = Outcome(status=AttachmentStatus.FAILED, error=postponed.reason)
            await self._record(claim, Product(outcome), began)
            return
        async with self._database.connect() as tx:
            await inspections.postpone(tx, claim, POSTPONED_SECONDS, is_attempt=postponed.is_attempt)
        LOG.info("inspection.waits", reason=postponed.reason, **_named(claim))

    async def _give_back(self, claim: Claim) -> None:
        """At a stop: let another worker begin at once instead of waiting for the lease to run out."""
        with suppress(DomainError):
            async with self._database.connect() as tx:
                await inspections.postpone(tx, claim, 0, is_attempt=False)


async def _ended(*tasks: asyncio.Task[Any]) -> None:
    """Wait for the end of tasks that were cancelled, also when cut off: what they write cannot be deleted before."""
    cut_off: asyncio.CancelledError | None = None
    while any(not task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cut_off = error
    await asyncio.gather(*tasks, return_exceptions=True)
    if cut_off is not None:
        raise cut_off


def _named(claim: Claim) -> dict[str, Any]:
    return {"session_id": claim.session_id, "attachment_id": claim.attachment_id}


async def inspect_attachments(ctx: dict[str, Any]) -> None:
    """The job that the doorbell asks for."""
    found: Inspections = ctx["inspections"]
    found.wake()
