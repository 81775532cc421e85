"""The metrics of the event log. No label holds an id of a customer."""

from collections.abc import Iterator
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from operations.events.local_copy import LocalCopy
from operations.events.log import Committed, EventLog
from operations.events.store import Outcome, State

_BUCKETS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class Source(Protocol):
    """A source that brings events by itself: how many it has not read, and why reading failed last."""

    lag: int
    fault: str | None


class Figures:
    """Counts events and commits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._kept = Counter(
            "cesta_events",
            "Acknowledged events: accepted, or known from before",
            ["result"],
            registry=registry,
        )
        self._refused = Counter(
            "cesta_events_refused", "Events that were not kept, by code", ["code"], registry=registry
        )
        self._unknown = Counter(
            "cesta_events_unknown_items",
            "Items of accepted events that the active release does not know",
            registry=registry,
        )
        self._failed = Counter("cesta_events_commits_failed", "Commits that kept nothing", registry=registry)
        self._commits = Histogram(
            "cesta_events_commit_seconds",
            "Duration of each commit of the event log",
            buckets=_BUCKETS_S,
            registry=registry,
        )
        for state in (State.ACCEPTED, State.KNOWN):
            self._kept.labels(state)

    def count(self, outcome: Outcome) -> None:
        """Count what became of one event."""
        if outcome.state is State.CHANGED:
            self.refuse("event_changed")
        else:
            self._kept.labels(outcome.state).inc()

    def refuse(self, code: str, events: int = 1) -> None:
        """Count events that are not kept."""
        self._refused.labels(code).inc(events)

    def count_unknown(self, items: int) -> None:
        """Count items without a row in the active release."""
        self._unknown.inc(items)

    def observe(self, committed: Committed) -> None:
        """Count one commit."""
        self._commits.observe(committed.seconds)
        if not committed.good:
            self._failed.inc()

    def add_log(self, log: EventLog) -> None:
        """Show the state of a log, too."""
        self._registry.register(_LogCollector(log))

    def add_source(self, source: Source) -> None:
        """Show how far a source is read, too."""
        self._registry.register(_SourceCollector(source))

    def add_copy(self, log: EventLog, copy: LocalCopy) -> None:
        """Show how far this machine's copy of a shared log is, too."""
        self._registry.register(_CopyCollector(log, copy))


class _CopyCollector(Collector):
    """Reads how far the copy of a shared log is behind."""

    def __init__(self, log: EventLog, copy: LocalCopy) -> None:
        self._log, self._copy = log, copy

    def collect(self) -> Iterator[Metric]:
        behind = max(0, self._log.position - self._copy.position)
        yield _gauge(
            "cesta_events_copy_lag", "Events of the shared log that this machine has not copied", behind
        )
        yield _gauge("cesta_events_copy_up", "1 unless copying failed last", self._copy.fault is None)


class _SourceCollector(Collector):
    """Reads how far a source is behind."""

    def __init__(self, source: "Source") -> None:
        self._source = source

    def collect(self) -> Iterator[Metric]:
        yield _gauge("cesta_events_source_lag", "Messages of the source that were not read", self._source.lag)
        yield _gauge("cesta_events_source_up", "1 unless reading failed last", self._source.fault is None)


class _LogCollector(Collector):
    """Reads the log's state when Prometheus scrapes."""

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def collect(self) -> Iterator[Metric]:
        log = self._log
        yield _gauge("cesta_events_queued", "Events that wait for the disk", log.queued)
        yield _gauge("cesta_events_position", "Position of the last event", log.position)
        yield _gauge("cesta_events_log_bytes", "Space that the event log takes", log.size_bytes)
        yield _gauge("cesta_events_writable", "1 unless the last commit failed", log.fault is None)


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(name, documentation, value=float(value))
