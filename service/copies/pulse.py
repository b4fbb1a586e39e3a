"""Whether Redis lives, as this process sees it: renews the generation of copies, and proves when one must be over."""

from __future__ import annotations

import asyncio
import contextlib
from typing import NoReturn

from service.copies.awake import AwakeClock
from service.copies.link import Link, Trouble, Unanswered, new_generation
from service.copies.names import GENERATION
from service.copies.scripts import BEAT, GENERATION_SECONDS
from service.log import get_logger

BEAT_SECONDS = 0.25
"""Four renewals in a generation's life: three may get lost."""

ANSWER_SECONDS = 0.1
"""A beat that takes longer is a Redis in trouble."""

RETRY_SECONDS = 0.05
CALL_SECONDS_MAX = 3.0
"""A beat that Redis has not answered by then is asked again on another connection: the old one may be the trouble."""

OVER_SECONDS = GENERATION_SECONDS + 0.1
"""A Redis that has answered nobody for so long has let its generation lapse: no copy of before will be shown."""

LOG = get_logger("cache")


class Pulse:
    """Renews the generation four times in its life, and knows since when nobody has answered."""

    def __init__(self, link: Link) -> None:
        self.clock = AwakeClock()
        """All that silence proves is counted by it."""
        self.generation: bytes | None = None
        """The one that was renewed last; None while in trouble."""
        self._link = link
        self._asked_at: float | None = None
        self._failing_since: float | None = None
        self._must_renew = False
        self._wanted = asyncio.Event()
        self._beating: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to beat in the background."""
        self._beating = asyncio.create_task(self._beat_again_and_again(), name="cache-pulse")

    async def stop(self) -> None:
        """Beat no more. The generation lapses by itself when the last process is gone."""
        while self._beating is not None and not self._beating.done():
            self._beating.cancel()
            await asyncio.wait([self._beating], timeout=ANSWER_SECONDS)
        await self._link.close()
        self.clock.stop()

    @property
    def is_failing(self) -> bool:
        """Whether the last beat failed, or one waits for its answer for too long."""
        return self._failing_since is not None or self._silent_seconds() > ANSWER_SECONDS

    @property
    def is_over(self) -> bool:
        """Whether a beat has waited for its answer so long, and still waits, that no copy can be shown by anybody."""
        return self._silent_seconds() > OVER_SECONDS

    @property
    def has_long_failed(self) -> bool:
        """Whether nothing was confirmed to this process for as long as a generation lives."""
        return self._failing_since is not None and self.clock.now() - self._failing_since > OVER_SECONDS

    def doubt(self, *, must_renew: bool = False) -> None:
        """Beat now: something was not confirmed. `must_renew`: nor will it be, so all copies have to go."""
        self._must_renew = self._must_renew or must_renew
        self._wanted.set()

    def _silent_seconds(self) -> float:
        return 0.0 if self._asked_at is None else self.clock.now() - self._asked_at

    async def _beat_again_and_again(self) -> NoReturn:
        while True:
            self._wanted.clear()
            try:
                await self._beat()
            except Trouble as trouble:
                self._fail(trouble)
                wait_seconds = 0.0 if isinstance(trouble, Unanswered) else RETRY_SECONDS
            except Exception:  # copies must not depend on this task's luck
                LOG.exception("cache.broke")
                wait_seconds = BEAT_SECONDS
            else:
                wait_seconds = BEAT_SECONDS
            if wait_seconds:
                self._asked_at = None
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_seconds):
                        await (asyncio.sleep(wait_seconds) if self._failing_since else self._wanted.wait())

    async def _beat(self) -> None:
        if self._asked_at is None:
            self._asked_at = self.clock.now()
        # After any trouble, and at the start: what this process had to say may not have been heard.
        must_renew, self._must_renew = self._must_renew or self.generation is None, False
        try:
            generation: bytes = await self._link.call(BEAT, [GENERATION], [new_generation(), int(must_renew)])
        except BaseException:
            self._must_renew = self._must_renew or must_renew
            raise
        if self._failing_since is not None:
            LOG.info("cache.resumed")
        self.generation, self._failing_since, self._asked_at = generation, None, None

    def _fail(self, trouble: Trouble) -> None:
        if self._failing_since is None:
            LOG.warning("cache.postponed", error=str(trouble))
            self._failing_since = self._asked_at
        self.generation = None
