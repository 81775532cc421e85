"""The supervisor's own metrics for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from operations.server.version import MINIMUM, TritonVersion
from operations.supervisor.status import Status
from operations.supervisor.watchdog import LOST

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


class Metrics:
    """Collects the durations of canaries and the state of a watchdog for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._canary = Histogram(
            "cesta_canary_seconds",
            "Duration of each canary, including canaries without an answer",
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        ProcessCollector(namespace="cesta_supervisor", registry=self.registry)

    def observe(self, seconds: float) -> None:
        """Count one canary, answered or not."""
        self._canary.observe(seconds)

    def canaries(self) -> int:
        """Return the number of canaries so far. Each asks Triton about one unknown item."""
        return int(self.registry.get_sample_value("cesta_canary_seconds_count") or 0)

    def add_status(self, status: Status) -> None:
        """Show the status, too."""
        self.registry.register(_StatusCollector(status))

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class _StatusCollector(Collector):
    """Reads the status when Prometheus scrapes, so that no number is stored twice."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        watchdog = self._status.watchdog
        restarts = CounterMetricFamily(
            "cesta_restarts", "Starts after the first, by kind of trouble", labels=["trouble"]
        )
        for trouble in LOST:
            restarts.add_metric([trouble], watchdog.restarts[trouble])
        yield restarts
        yield _gauge("cesta_ready", "1 while canaries are answered", watchdog.health.ready)
        yield _gauge(
            "cesta_seconds_since_healthy",
            "Seconds since the last answered canary; 0 while canaries are answered",
            watchdog.seconds_unhealthy(),
        )
        yield _gauge(
            "cesta_active_release",
            "The release that answers; 0 before the first answer",
            watchdog.health.release,
        )
        yield _gauge(
            "cesta_fallback",
            "1 while the previous release answers, because the active one cannot be served",
            self._status.fallback() is not None,
        )
        yield _gauge("cesta_uptime_seconds", "Uptime of the supervisor", self._status.uptime_s())
        failed = CounterMetricFamily(
            "cesta_promotions_failed", "Failed promotions and rollbacks in the repository's history"
        )
        failed.add_metric([], self._status.promotions_failed())
        yield failed
        yield from self._status.ages().metrics()
        yield from self._status.loop.metrics()
        if triton := self._status.triton:
            yield from _triton(triton)


def _triton(triton: TritonVersion) -> Iterator[Metric]:
    info = GaugeMetricFamily(
        "cesta_triton_info", "1, with the versions as labels", labels=["version", "minimum"]
    )
    info.add_metric([triton.version, MINIMUM], 1)
    yield info
    yield _gauge("cesta_triton_outdated", "1 if tritonserver is older than the minimum", triton.is_outdated)
    yield _gauge("cesta_triton_exposed", "1 if tritonserver listens beyond loopback", triton.is_exposed)


def _gauge(name: str, documentation: str, value: float | None) -> Metric:
    return GaugeMetricFamily(name, documentation, value=float(value or 0))
