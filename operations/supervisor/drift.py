"""Watches for drift: reads the sampler's counters at intervals, for the metrics and ``GET /v1/drift``."""

import time
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any, Final

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from operations.drift.live import Follower, zone_of
from operations.drift.windows import SLOT_S
from operations.errors import CestaError
from operations.records.manifest import ReleaseManifest
from operations.supervisor.watchdog import Ending

log = structlog.get_logger()

INTERVAL_S: Final = 15.0  # between two looks; a page takes 5 ms of the processor
TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.5


class DriftWatch(Collector):
    """Follows the release that answers. Its own thread reads pages and manifests; nobody else waits."""

    def __init__(
        self,
        metrics: str,
        release: Callable[[], int | None],
        read: Callable[[int], ReleaseManifest],
        canaries: Callable[[], float],
    ) -> None:
        """``metrics`` is host:port of Triton's page. The functions tell what is so at the moment."""
        self._url, self._release, self._read, self._canaries = (
            f"http://{metrics}/metrics",
            release,
            read,
            canaries,
        )
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is near
        self._follower, self._failed = Follower(), False
        self._offset_s = _offset_s()

    def follow(self, ending: Ending) -> None:
        """Look at intervals until ``ending``."""
        due_s = time.monotonic()
        while not ending.wait(POLL_S):
            release = self._release()
            if time.monotonic() < due_s and release == self._follower.release:
                continue
            due_s = time.monotonic() + INTERVAL_S
            try:
                self.look(release)
                self._failed = False
            except (CestaError, OSError, HTTPException, ValueError) as error:
                if not self._failed:  # a server that starts again has no page for some seconds
                    log.info("drift not measured", reason=str(error))
                self._failed = True

    def look(self, release: int | None) -> None:
        """Compare once. Raises CestaError, OSError or HTTPException if page or manifest cannot be read."""
        if release is None:
            return
        if self._is_clock_set() or release != self._follower.release:
            described = self._read(release)
            self._follower.begin(release, described.drift, described.contract.candidates or 0)
            if described.drift and zone_of(zone := described.drift.timezone) is None:
                log.warning(
                    "hours not compared", reason=f"no time zone {zone} on this machine; install tzdata"
                )
        if self._follower.record is not None:
            canaries = self._canaries()
            with self._opener.open(self._url, timeout=TIMEOUT_S) as page:
                text = page.read().decode("utf-8", errors="replace")
            self._follower.see(text, canaries, time.time())

    def _is_clock_set(self) -> bool:
        """Was the machine's clock set since the last look? Then the windows hold other hours than told."""
        before, self._offset_s = self._offset_s, _offset_s()
        if abs(self._offset_s - before) < SLOT_S:
            return False
        log.info("drift begins anew", reason=f"the clock was set by {self._offset_s - before:+.0f} s")
        return True

    def report(self) -> dict[str, Any]:
        """Return the answer of ``GET /v1/drift``."""
        return self._follower.describe()

    def collect(self) -> Iterator[Metric]:
        """The gauges of the last look."""
        labels = ["feature", "window"]
        distance = GaugeMetricFamily(
            "cesta_drift",
            "Distance of what is asked from what the release was made of, 0 to 1",
            labels=labels,
        )
        low = GaugeMetricFamily("cesta_drift_low", "Lower bound of its 95 % interval", labels=labels)
        threshold = GaugeMetricFamily(
            "cesta_drift_threshold", "A lower bound above it is drift", labels=labels
        )
        questions = GaugeMetricFamily(
            "cesta_drift_questions", "Questions in the window of time", labels=["window"]
        )
        for look in self._follower.looks:
            questions.add_metric([look.window], look.questions)
            for finding in look.findings:
                place = [finding.feature, finding.window]
                distance.add_metric(place, finding.distance)
                low.add_metric(place, finding.low)
                threshold.add_metric(place, finding.threshold)
        yield from (distance, low, threshold, questions)
        yield GaugeMetricFamily(
            "cesta_drift_reference",
            "1 if the release that answers has a reference to compare with",
            value=float(self._follower.record is not None),
        )


def _offset_s() -> float:
    """The clock on the wall less the one that nobody sets."""
    return time.time() - time.monotonic()
