"""Delivers webhooks: claims what is due, sends each once, records what came of it.

The doorbell only says that there is something to do; what is found by query, so a lost bell, an emptied Redis or a
worker that died costs seconds. An endpoint that hangs keeps five attempts at the most, one once it has failed.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict, deque
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

from service import faults
from service.commands.deliveries import claim_deliveries, drop_purged, record_and_claim
from service.domain.delivery import HOST_ATTEMPTS_MAX, DeliveryStatus, Failure, Outcome, Verdict
from service.domain.errors import DomainError
from service.faults import Point
from service.log import get_logger
from service.resolver import NotAsked
from service.seals import Seals
from service.store import attempts
from service.store.deliveries import IN_FLIGHT_MAX, Claim, Room
from service.store.engine import Database
from workers.egress import Egress
from workers.sending import attempt

ATTEMPTS_MAX = 1000
"""At once, most of which wait for somebody."""

DOUBTFUL_MAX = 500
"""Of them for endpoints that fail, or with which an attempt has taken long: the others are for those that answer. While
they are all taken an endpoint gets one at a time, so it takes 500 that begin to hang together to fill the other half.
"""

SLOW_SECONDS = 1.0
"""An attempt that has taken longer is waiting for somebody who hangs, or is far too slow."""

AHEAD = 15
"""Claimed of an endpoint beyond the five in flight, and sent as those end: on a busy machine a turn takes longer than a
POST, and five in each turn would be all. Given back as soon as an attempt there fails or takes long.
"""

AHEAD_MAX = 1000
"""Of all endpoints together; each is an event of some kB."""

CLAIMS_MAX = 100
"""In one transaction: a few milliseconds of PostgreSQL's time."""

SWEEP_SECONDS = 1.0
"""What a lost doorbell costs at the most, and how late a retry may be."""

TURN_INTERVAL_SECONDS = 0.005
"""Between two turns: what has ended or come meanwhile is dealt with by one transaction, instead of by one each."""

RENEWAL_SECONDS = 3.0
"""A third of the lease: two renewals may get lost."""

STOP_SECONDS = 10.0
"""What running attempts get to finish at a stop; those that do not are given back at once."""

NO_ROOM = Room(attempts=0, doubtful=0)

LOG = get_logger("delivery")


class Running(NamedTuple):
    """An attempt that is being made, and since when, by the loop's clock."""

    claim: Claim
    began: float
    task: asyncio.Task[None]


class Deliveries:
    """The attempts of one worker process; `each_host` of a tenant go to one host at once, over all workers."""

    def __init__(self, database: Database, egress: Egress, seals: Seals, each_host: int = HOST_ATTEMPTS_MAX) -> None:
        self._database = database
        self._egress = egress
        self._seals = seals
        self._each_host = each_host
        self._woken = asyncio.Event()
        self._running: dict[tuple[UUID, int], Running] = {}
        self._flying: Counter[UUID] = Counter()
        self._queued: dict[UUID, deque[Claim]] = defaultdict(deque)
        self._returned: list[Claim] = []
        self._made: list[tuple[Claim, Outcome]] = []
        self._renewed_at = 0.0
        self._in_trouble = False

    def wake(self) -> None:
        """Look for work soon."""
        self._woken.set()

    async def work_until(self, stop: asyncio.Event) -> None:
        """Deliver whatever is due, when woken and every second, until `stop` is set; then finish or give back."""
        stopping = asyncio.create_task(self._wake_at(stop))
        try:
            while not stop.is_set():
                self._woken.clear()
                await self._take_turn(claims=True)
                await asyncio.sleep(TURN_INTERVAL_SECONDS)
                with suppress(TimeoutError):
                    async with asyncio.timeout(SWEEP_SECONDS):
                        await self._woken.wait()
        finally:
            stopping.cancel()
            await self._finish_or_give_back()
            await self._egress.close()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._woken.set()

    async def _take_turn(self, *, claims: bool) -> None:
        """Record what has been made and claim what is due, in one transaction; nothing else here writes deliveries."""
        room = self._room() if claims else NO_ROOM
        made, self._made = self._made, []
        try:
            await self._give_back()
            await self._renew(made)
            claimed = await self._record_and_claim(made, room)
        except DomainError as error:
            self._made = made + self._made  # the next turn tries again, while the leases hold
            self._note_trouble(error)
            return
        except Exception:
            LOG.exception("delivery.broke")
            await self._record_one_by_one(made)
            return
        self._in_trouble = False
        for claim in claimed:
            if self._flying[claim.endpoint_id] < IN_FLIGHT_MAX:
                self._start(claim)
            else:
                self._queued[claim.endpoint_id].append(claim)
        if len(claimed) == CLAIMS_MAX:
            self._woken.set()

    async def _record_and_claim(self, made: list[tuple[Claim, Outcome]], room: Room) -> list[Claim]:
        verdicts: list[Verdict | None] = []
        claimed: list[Claim] = []
        if made:
            async with self._database.begin() as tx:
                verdicts, claimed = await record_and_claim(tx, made, random.random, room)
        elif room.attempts:
            async with self._database.begin() as tx:
                claimed = await claim_deliveries(tx, room)
        for (claim, outcome), verdict in zip(made, verdicts, strict=True):
            _log(claim, outcome, verdict)
        return claimed

    async def _record_one_by_one(self, made: list[tuple[Claim, Outcome]]) -> None:
        """One that cannot be recorded must not take the others with it; its lease runs out, and it is sent again."""
        for one in made:
            try:
                await self._record_and_claim([one], NO_ROOM)
            except DomainError as error:
                self._note_trouble(error)
            except Exception:
                LOG.exception("delivery.broke", **_named(one[0]))

    def _room(self) -> Room:
        began_before = asyncio.get_running_loop().time() - SLOW_SECONDS
        slow_ids = {one.claim.endpoint_id for one in self._running.values() if one.began < began_before}
        for endpoint_id in slow_ids:
            self._return_queued(endpoint_id)
        doubtful = sum(one.claim.is_doubtful or one.claim.endpoint_id in slow_ids for one in self._running.values())
        room = max(0, DOUBTFUL_MAX - doubtful)
        holding = self._flying.copy()
        for endpoint_id, queued in self._queued.items():
            holding[endpoint_id] += len(queued)
        return Room(
            attempts=min(CLAIMS_MAX, ATTEMPTS_MAX - len(self._running)),
            each=IN_FLIGHT_MAX if room else 1,
            each_host=self._each_host,
            ahead=AHEAD if room and holding.total() - len(self._running) < AHEAD_MAX else 0,
            holding=holding,
            doubtful=room,
            slow_ids=slow_ids,
        )

    def _start(self, claim: Claim) -> None:
        task = asyncio.create_task(self._deliver(claim), name="delivery")
        self._running[claim.delivery_id, claim.lease_token] = Running(claim, asyncio.get_running_loop().time(), task)
        self._flying[claim.endpoint_id] += 1

    async def _deliver(self, claim: Claim) -> None:
        try:
            if claim.event is None and claim.test_event is None:
                async with self._database.begin() as tx:
                    await drop_purged(tx, claim)
                return
            outcome = await attempt(self._egress, self._seals, claim)
            faults.reach(Point.AFTER_PUSH)
            self._made.append((claim, outcome))
            if not outcome.is_success:
                self._return_queued(claim.endpoint_id)
        except NotAsked:  # no attempt was made: it is due again at once, and waits for a thread anew
            LOG.info("delivery.name_not_asked", **_named(claim))
            self._returned.append(claim)
            self._return_queued(claim.endpoint_id)
        except DomainError as error:  # its lease runs out, and it is claimed again
            self._note_trouble(error)
        except Exception:  # one delivery must not end the others
            LOG.exception("delivery.broke", **_named(claim))
        finally:
            self._end(claim)

    def _end(self, claim: Claim) -> None:
        endpoint_id = claim.endpoint_id
        self._running.pop((claim.delivery_id, claim.lease_token), None)
        self._flying[endpoint_id] -= 1
        if not self._flying[endpoint_id]:
            del self._flying[endpoint_id]
        if (queued := self._queued.get(endpoint_id)) is not None:
            self._start(queued.popleft())
            if not queued:
                del self._queued[endpoint_id]
        self._woken.set()  # a place at its endpoint is free, and the next of its session may go

    def _return_queued(self, endpoint_id: UUID) -> None:
        self._returned += self._queued.pop(endpoint_id, ())

    async def _give_back(self) -> None:
        """Let others attempt, or nobody, what was claimed ahead; on its own, before any lock is taken."""
        returned, self._returned = self._returned, []
        if returned:
            try:
                async with self._database.connect() as tx:
                    await attempts.give_back(tx, returned)
            except DomainError:
                self._returned += returned
                raise

    async def _renew(self, made: list[tuple[Claim, Outcome]]) -> None:
        """Keep the leases of what runs, and of what is not recorded yet."""
        now = asyncio.get_running_loop().time()
        if now - self._renewed_at < RENEWAL_SECONDS:
            return
        held = [one.claim for one in self._running.values()] + [claim for claim, _ in made]
        held += [claim for queued in self._queued.values() for claim in queued]
        if held:
            async with self._database.connect() as tx:
                await attempts.renew(tx, held)
        self._renewed_at = now

    async def _finish_or_give_back(self) -> None:
        for endpoint_id in list(self._queued):
            self._return_queued(endpoint_id)
        ending = asyncio.get_running_loop().time() + STOP_SECONDS
        while self._running and (left := ending - asyncio.get_running_loop().time()) > 0:
            tasks = [one.task for one in self._running.values()]
            await asyncio.wait(tasks, timeout=min(left, SWEEP_SECONDS), return_when=asyncio.FIRST_COMPLETED)
            await self._take_turn(claims=False)
        late = list(self._running.values())
        for one in late:
            one.task.cancel()
        await asyncio.gather(*(one.task for one in late), return_exceptions=True)
        self._returned += [one.claim for one in late if one.task.cancelled()]  # else it was made after all
        await self._take_turn(claims=False)

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
    if outcome.error is Failure.SECRET_UNREADABLE:
        LOG.warning("delivery.unsigned", **_named(claim))
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
