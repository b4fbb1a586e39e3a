"""How many requests somebody may make: counted in Redis for all processes together, by a sliding window.

While Redis is away or slow each process counts for itself, in memory of a bounded size. So there is always a limit, and
never an error or a wait: who is first to meet a hanging Redis waits a tenth of a second, and for the next second nobody
even asks.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
import time
from collections import OrderedDict
from ipaddress import IPv6Address, ip_address
from typing import Any

import msgspec
from limits import RateLimitItem, parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from prometheus_client import Counter
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.log import get_logger
from service.pipelining import ANSWER_SECONDS_MAX, PipelinedRedis

SOCKET_SECONDS_MAX = 1.0
"""When a connection on which nothing came is given up, long after whoever asked has gone on."""

PROBE_SECONDS = 1.0
"""How long a Redis in trouble is left alone; then one probe, which is nobody's request, looks for it."""

WINDOWS_MAX = 10_000
"""Of those who are counted in memory, 2 MB; when one more comes, whoever was silent for longest is forgotten."""

PREFIX = "holdfast:rates"
IPV6_SITE = 64
"""Whoever has one address of IPv6 has all those with the same first 64 bits."""

ROUNDING_SECONDS = 1e-6
"""What sums of times may be off by."""

TROUBLE = (RedisError, OSError, TimeoutError)
NO_COUNT = (ValueError, TypeError, ArithmeticError)
"""What `limits` stumbles with over a count in Redis that is none: somebody else has written there."""

LOG = get_logger("rates")


class Standing(msgspec.Struct, frozen=True):
    """How somebody stands after a request: whether it is allowed, how many are left, and in how many seconds more."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int

    @property
    def share_left(self) -> float:
        """What of the limit is left; of two standings the caller is told the smaller one."""
        return self.remaining / self.limit if self.allowed else -1.0


class Window(msgspec.Struct):
    """How often somebody has asked in the window that began at `start`, and in the one before."""

    start: float
    count: int = 0
    previous: int = 0


class Windows:
    """Counts in memory, by the same sliding window as in Redis."""

    def __init__(self, rate: RateLimitItem) -> None:
        self._limit = rate.amount
        self._seconds = rate.get_expiry()
        self._windows: OrderedDict[str, Window] = OrderedDict()
        """Whoever asked last stands at the end."""

    def hit(self, key: str, now: float) -> Standing:
        """Count a request of `key` at the moment `now`."""
        window = self._window(key, now)
        left = window.previous * (1 - (now - window.start) / self._seconds)  # of the window before, what still counts
        room = self._limit - window.count - math.floor(left)
        allowed = room > 0
        if allowed:
            window.count += 1
            room -= 1
        until_next = window.start + self._seconds - now
        if window.previous and math.floor(left) > 0:
            until_next = min(until_next, (left - math.floor(left)) * self._seconds / window.previous)
        return Standing(allowed, self._limit, max(0, room), whole_seconds_after(until_next))

    def give_back(self, key: str) -> None:
        """Take back a hit that was let through, if its window is still the present one."""
        window = self._windows.get(key)
        if window is not None and window.count:
            window.count -= 1

    def _window(self, key: str, now: float) -> Window:
        window = self._windows.get(key)
        if window is None or now - window.start >= 2 * self._seconds:
            window = self._windows[key] = Window(now)
        elif now - window.start >= self._seconds:
            window.start, window.previous, window.count = window.start + self._seconds, window.count, 0
        self._windows.move_to_end(key)
        if len(self._windows) > WINDOWS_MAX:
            self._windows.popitem(last=False)
        return window


def windows_of(rate: str) -> Windows:
    """Counts in memory alone, by a limit such as `60/minute`."""
    return Windows(parse(rate))


class Counted:
    """One kind of limit: who has asked how often. In Redis, or while that is away in memory."""

    def __init__(self, rate: RateLimitItem, kind: str) -> None:
        self.rate = rate
        self.kind = kind
        self.here = Windows(rate)


class Rates:
    """The limits that are set, and how everybody stands."""

    def __init__(
        self,
        redis_url: str,
        *,
        per_caller: str | None,
        per_tenant: str | None,
        bad_credentials: str | None = None,
        failures: Counter | None = None,
    ) -> None:
        self._caller = None if per_caller is None else Counted(parse(per_caller), "caller")
        self._address = None if per_caller is None else Counted(parse(per_caller), "address")
        self._tenant = None if per_tenant is None else Counted(parse(per_tenant), "tenant")
        self._bad = None if bad_credentials is None else Counted(parse(bad_credentials), "bad")
        self._failures = failures
        pool = ConnectionPool.from_url(
            redis_url,
            socket_timeout=SOCKET_SECONDS_MAX,
            socket_connect_timeout=SOCKET_SECONDS_MAX,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = PipelinedRedis(pool)
        # The client is ours; this only chooses what kind of storage it is.
        storage = RedisStorage("async+redis://", implementation="redispy", key_prefix=PREFIX)
        bridge: Any = storage.bridge
        bridge.storage = self._redis
        bridge.register_scripts()
        self._window = SlidingWindowCounterRateLimiter(storage)
        self._probing: asyncio.Task[None] | None = None

    async def count_caller(self, tenant_id: str, who: str) -> Standing | None:
        """Count a request of `who`, in a tenant; None: no limit is set.

        The caller's own limit comes first: what it refuses takes nothing from the others of its tenant.
        """
        standing = None if self._caller is None else await self._hit(self._caller, tenant_id, who)
        if self._tenant is None or (standing is not None and not standing.allowed):
            return standing
        of_all = await self._hit(self._tenant, tenant_id)
        return of_all if standing is None else min(standing, of_all, key=lambda one: one.share_left)

    async def count_address(self, address: str | None) -> Standing | None:
        """Count a request of somebody unknown, by where it comes from; None: no limit is set."""
        return None if self._address is None else await self._hit(self._address, site_of(address))

    async def count_bad_credentials(self, address: str | None) -> Standing | None:
        """Count credentials that proved nothing, by where they come from; None: no limit is set."""
        return None if self._bad is None else await self._hit(self._bad, site_of(address))

    async def stop(self) -> None:
        """Ask no more."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.wait([self._probing], timeout=ANSWER_SECONDS_MAX)
        await self._redis.stop()

    async def _hit(self, counted: Counted, *named: str) -> Standing:
        key = key_of(counted.kind, *named)
        if self._probing is None:
            try:
                return await self._ask(counted.rate, key)
            except (*TROUBLE, *NO_COUNT) as error:
                self._leave_alone(error)
        return counted.here.hit(key, time.monotonic())

    async def _ask(self, rate: RateLimitItem, key: str) -> Standing:
        # Both are sent together, and in this order.
        allowed, stats = await asyncio.gather(self._window.hit(rate, key), self._window.get_window_stats(rate, key))
        seconds = whole_seconds_after(stats.reset_time - time.time())
        return Standing(allowed, rate.amount, stats.remaining if allowed else 0, seconds)

    def _leave_alone(self, error: Exception) -> None:
        if self._failures is not None:
            self._failures.inc()
        if self._probing is None:
            LOG.warning("rates.counted_here", error=type(error).__name__)
            self._probing = asyncio.create_task(self._probe_until_it_answers(), name="rates-probe")

    async def _probe_until_it_answers(self) -> None:
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            with contextlib.suppress(*TROUBLE):
                await self._redis.ping()
                LOG.info("rates.counted_in_redis")
                self._probing = None
                return


def whole_seconds_after(seconds: float) -> int:
    """After how many whole seconds the moment is past: at the very moment itself it is too early."""
    return math.floor(max(0.0, seconds) + ROUNDING_SECONDS) + 1


def key_of(kind: str, *named: str) -> str:
    """A short key that tells nobody who it is about."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (kind, *named):
        encoded = name.encode("utf-8", "surrogateescape")
        digest.update(len(encoded).to_bytes(4, "big") + encoded)
    return f"{kind}:{digest.hexdigest()}"


def address_in(text: str) -> str | None:
    """The address in what a proxy says of its client, without a port or a zone; None: it names none.

    `text` is an entry of X-Forwarded-For: any text at all where a proxy passes on what its client sent.
    """
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def site_of(address: str | None) -> str:
    """Who can be told apart by addresses: one of IPv4, or a network of IPv6."""
    try:
        parsed = ip_address((address or "").partition("%")[0])
    except ValueError:  # a Unix socket, or a proxy that says something else
        return "unknown"
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return parsed.exploded[: IPV6_SITE // 16 * 5 - 1]
    return str(parsed)
