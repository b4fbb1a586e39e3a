"""What the web process counts, in Prometheus' words. Each app has a registry of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

LATENCY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""From a read by primary key to the longest statement timeout."""


class Metrics:
    """The counters and gauges of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.request_seconds = Histogram(
            "holdfast_request_seconds",
            "Time to answer, by method, route and status.",
            ("method", "route", "status"),
            registry=self.registry,
            buckets=LATENCY_BUCKETS_SECONDS,
        )
        self.doorbell_failures = Counter(
            "holdfast_doorbell_failures", "Doorbells that Redis did not take.", registry=self.registry
        )
        self.wakeup_failures = Counter(
            "holdfast_wakeup_failures", "Wake-ups of streams that Redis did not take.", registry=self.registry
        )
        self.connections = Gauge("holdfast_connections", "Connections that are open.", registry=self.registry)
        self.unsent_bytes = Gauge(
            "holdfast_unsent_bytes", "Bytes of answers that wait for their clients.", registry=self.registry
        )
        self.connections_ended = Counter(
            "holdfast_connections_ended",
            "Connections that were closed on clients, by what was too slow or too much.",
            ("reason",),
            registry=self.registry,
        )
        self.streams = Gauge("holdfast_streams", "Streams that are open.", registry=self.registry)
        self.streams_dropped = Counter(
            "holdfast_streams_dropped", "Streams whose readers were too slow.", registry=self.registry
        )
        self.rate_failures = Counter(
            "holdfast_rate_failures", "Times that Redis did not count requests in time.", registry=self.registry
        )
        self.rate_limited = Counter(
            "holdfast_rate_limited", "Requests refused because there were too many.", registry=self.registry
        )
        self.replays = Counter(
            "holdfast_idempotent_replays", "Requests answered with a kept answer.", registry=self.registry
        )
        self.cache_reads = Counter(
            "holdfast_cache_reads",
            "Reads that the cache could answer, by what was read and where the answer came from.",
            ("kind", "outcome"),
            registry=self.registry,
        )
        self.cache_fills = Counter(
            "holdfast_cache_fills",
            "Copies that readers wanted to make, by what became of them.",
            ("outcome",),
            registry=self.registry,
        )
        self.cache_refusals = Counter(
            "holdfast_cache_refusals", "Copies that were not what we had written.", registry=self.registry
        )
        self.cache_failures = Counter(
            "holdfast_cache_failures", "Calls of the cache that Redis did not answer.", registry=self.registry
        )
        self.cache_unconfirmed = Counter(
            "holdfast_cache_unconfirmed", "Changes that waited for Redis in vain.", registry=self.registry
        )
        self.cache_sampled = Counter(
            "holdfast_cache_sampled", "Copies that were compared with PostgreSQL.", registry=self.registry
        )
        self.cache_stale = Counter(
            "holdfast_cache_stale", "Copies that were older than PostgreSQL, or other.", registry=self.registry
        )
        self._cache_counted = (0, 0)
        self.postgresql_up = Gauge(
            "holdfast_postgresql_up", "1 when PostgreSQL answered this scrape.", registry=self.registry
        )
        self.outbox_waiting = Gauge("holdfast_outbox_events", "Events that wait to be relayed.", registry=self.registry)
        self.outbox_oldest_seconds = Gauge(
            "holdfast_outbox_lag_seconds", "Age of the oldest event that waits to be relayed.", registry=self.registry
        )
        self.attachments_waiting = Gauge(
            "holdfast_attachments_waiting", "Files that wait to be looked into.", registry=self.registry
        )
        self.attachments_oldest_seconds = Gauge(
            "holdfast_attachments_lag_seconds", "How long the first of them has waited.", registry=self.registry
        )
        self.webhooks_waiting = Gauge(
            "holdfast_webhooks_waiting", "Deliveries that could be attempted now.", registry=self.registry
        )
        self.webhooks_oldest_seconds = Gauge(
            "holdfast_webhooks_lag_seconds", "How long the first of them has waited.", registry=self.registry
        )
        self.tenant_row_bytes = Gauge(
            "holdfast_tenant_row_bytes",
            "Bytes of rows of the tenants that have most, about.",
            ("tenant",),
            registry=self.registry,
        )
        self.relayed = Counter(
            "holdfast_relayed", "Events relayed since the database was made.", registry=self.registry
        )
        self._relayed_total = 0
        self.worker_silence_seconds = Gauge(
            "holdfast_worker_silence_seconds",
            "Time since a worker of this queue was last heard.",
            ("queue",),
            registry=self.registry,
        )
        self.inspection_lock = Gauge(
            "holdfast_inspection_lock",
            "1 when all workers that inspect files have this lock on their children.",
            ("lock",),
            registry=self.registry,
        )

    def set_cache_counted(self, sampled: int, stale: int) -> None:
        """The same for the cache's samples."""
        before_sampled, before_stale = self._cache_counted
        self.cache_sampled.inc(max(0, sampled - before_sampled))
        self.cache_stale.inc(max(0, stale - before_stale))
        self._cache_counted = (max(sampled, before_sampled), max(stale, before_stale))

    def set_relayed_total(self, total: int) -> None:
        """Bring the counter to what PostgreSQL has counted; it never goes back, as Prometheus wants it."""
        self.relayed.inc(max(0, total - self._relayed_total))
        self._relayed_total = max(total, self._relayed_total)
