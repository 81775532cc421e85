"""The supervisor's own figures for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from operations.supervisor.status import Status
from operations.supervisor.watchdog import LOST

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Metrics:
    """`observe` takes each canary's seconds; `text` is what Prometheus scrapes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._canary = Histogram(
            "cesta_canary_seconds",
            "How long each canary took, those without an answer included",
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        ProcessCollector(namespace="cesta_supervisor", registry=self.registry)

    def observe(self, seconds: float) -> None:
        """One canary, answered or not."""
        self._canary.observe(seconds)

    def tell_of(self, status: Status) -> None:
        """Show what it knows, too."""
        self.registry.register(_StatusCollector(status))

    def text(self) -> bytes:
        """In Prometheus's text format."""
        return generate_latest(self.registry)


class _StatusCollector(Collector):
    """Read when scraped: nothing of it is kept twice."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        watchdog = self._status.watchdog
        restarts = CounterMetricFamily(
            "cesta_restarts", "Starts after the first, by what was wrong", labels=["trouble"]
        )
        for trouble in LOST:
            restarts.add_metric([trouble], watchdog.restarts[trouble])
        yield restarts
        yield _gauge("cesta_ready", "1 while canaries are answered", watchdog.health.ready)
        yield _gauge(
            "cesta_seconds_since_healthy",
            "Since a canary was answered; 0 while one is",
            watchdog.seconds_unhealthy(),
        )
        yield _gauge(
            "cesta_active_release", "The release that answers, 0 before any", watchdog.health.release
        )
        yield _gauge("cesta_uptime_seconds", "Of the supervisor", self._status.uptime_s())
        failed = CounterMetricFamily(
            "cesta_promotions_failed", "Promotions and rollbacks that failed, by the repository's history"
        )
        failed.add_metric([], self._status.promotions_failed())
        yield failed


def _gauge(name: str, what: str, value: float | None) -> Metric:
    return GaugeMetricFamily(name, what, value=float(value or 0))
