"""What the sampler counts: sums over each batch in numpy, sent to Triton's metrics once a second.

A call to Triton's metrics waits for the server's process, some 10 µs when it is idle and milliseconds when it
is not, and a histogram takes one value a call. So everything is counted here, a histogram's buckets included,
under the names that Prometheus gives them, and a thread of its own sends what was added.
"""

import threading
from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .query import Query
from .sources import SOURCES

USERS: Final = (
    "none",
    "unknown",
    "known",
)  # no id given; not of this release; of this release
BASKETS: Final = ("empty", "unknown", "known")  # no ids given; none of this release; at least one
STAGES: Final = ("parse", "sample", "respond")
BASKET_SIZES: Final = (0, 1, 2, 3, 5, 10, 20, 50, 100)
SECONDS: Final = (0.25e-3, 0.5e-3, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1)

HELP: Final = {
    "cesta_sampler_queries_total": "Queries sampled, by what was known of their user and basket",
    "cesta_sampler_item_ids_total": "Distinct item ids in baskets, by whether the release holds them",
    "cesta_sampler_candidates_total": "Candidates by source; one found by two sources counts for both",
    "cesta_sampler_refused_total": "Requests refused for the caller's fault",
    "cesta_sampler_basket_items": "Distinct item ids of a query's basket",
    "cesta_sampler_stage_seconds": "Seconds that a pass over one batch spent in a stage",
}


class Series(NamedTuple):
    """One line of the metrics page: the name of its family and its labels."""

    family: str
    labels: dict[str, str]


class Tally:
    """What one process has counted since it started."""

    def __init__(self) -> None:
        counters = [
            [Series("cesta_sampler_queries_total", {"user": u, "basket": b}) for u in USERS for b in BASKETS],
            [Series("cesta_sampler_item_ids_total", {"item": name}) for name in ("known", "unknown")],
            [Series("cesta_sampler_candidates_total", {"source": name}) for name in SOURCES],
            [Series("cesta_sampler_refused_total", {})],
        ]
        self._counts = np.zeros(sum(map(len, counters)))
        parts = np.split(self._counts, np.cumsum([len(group) for group in counters])[:-1])  # views
        self._queries, self._items, self._candidates, self._refused = parts
        self._sizes = _Histogram(BASKET_SIZES)
        self._stages = {stage: _Histogram(SECONDS) for stage in STAGES}
        histograms = [
            self._sizes.series("cesta_sampler_basket_items"),
            *(h.series("cesta_sampler_stage_seconds", stage=name) for name, h in self._stages.items()),
        ]
        self.series = list(chain(*counters, *histograms))

    def totals(self) -> NDArray[np.float64]:
        """(n,) one for each of ``series``."""
        histograms = [h.totals() for h in (self._sizes, *self._stages.values())]
        return np.concatenate([self._counts, *histograms])

    def sampled(self, queries: Sequence[Query], sources: NDArray[np.int32]) -> None:
        """Count a batch of queries, and by their (batch, C) sources what was proposed to them."""
        batch = len(queries)
        known = np.fromiter((len(q.basket) for q in queries), np.int64, batch)
        unknown = np.fromiter((q.unknown_items for q in queries), np.int64, batch)
        users = np.fromiter((q.named + (q.user_row > 0) for q in queries), np.int64, batch)
        baskets = (known > 0) + (known + unknown > 0).astype(np.int64)
        self._queries += np.bincount(users * len(BASKETS) + baskets, minlength=len(self._queries))
        self._items += known.sum(), unknown.sum()
        self._candidates += np.bincount(sources.ravel(), minlength=len(_BITS_OF)) @ _BITS_OF
        self._sizes.observe_all(known + unknown)

    def refused(self, requests: int) -> None:
        """Count requests that were refused."""
        self._refused += requests

    def took(self, stage: str, seconds: float) -> None:
        """Count what one of STAGES took for a batch."""
        self._stages[stage].observe(seconds)


class _Histogram:
    """Counts by upper bound, not yet cumulative: that can wait until they are sent."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds, self._sum = bounds, 0.0
        self._counts = np.zeros(len(bounds) + 1)  # the last: above all bounds

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def observe_all(self, values: NDArray[np.int64]) -> None:
        self._counts += np.bincount(np.searchsorted(self._bounds, values), minlength=len(self._counts))
        self._sum += float(values.sum())

    def series(self, name: str, **labels: str) -> list[Series]:
        """The lines that Prometheus expects of a histogram, in the order of ``totals``."""
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        buckets = [Series(f"{name}_bucket", labels | {"le": bound}) for bound in bounds]
        return [*buckets, Series(f"{name}_sum", labels), Series(f"{name}_count", labels)]

    def totals(self) -> NDArray[np.float64]:
        cumulative = self._counts.cumsum()
        return np.concatenate([cumulative, [self._sum, cumulative[-1]]])


class Reporter:
    """Sends what a tally gained to Triton's metrics, every ``period_s`` and once more at the end.

    ``family`` is ``pb_utils.MetricFamily``; ``labels`` tell this process from others of the same server.
    """

    def __init__(self, tally: Tally, family: Any, labels: dict[str, str], period_s: float = 1.0):
        names = dict.fromkeys(series.family for series in tally.series)
        self._families = {name: family(name, _help(name), family.COUNTER) for name in names}
        self._metrics = [self._families[name].Metric(own | labels) for name, own in tally.series]
        self._tally, self._sent, self._period_s = tally, np.zeros(len(tally.series)), period_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send the rest and end. A server that is gone is not waited for."""
        self._ending.set()
        self._thread.join(timeout=2)
        self._metrics.clear()
        self._families.clear()  # takes the series off the page: the release is no longer served

    def _run(self) -> None:
        while not self._ending.wait(self._period_s):
            self._send()
        self._send()

    def _send(self) -> None:
        values = self._tally.totals()  # what a pass adds meanwhile is sent the next time
        gained = values - self._sent
        for place in np.flatnonzero(gained)[::-1]:  # a histogram's buckets last to first: they stay in order
            self._metrics[place].increment(float(gained[place]))
        self._sent = values


# (masks, sources): which sources a candidate's mask names.
_BITS_OF: Final = (np.arange(2 ** len(SOURCES))[:, None] & np.array(list(SOURCES.values()))) > 0


def _help(family: str) -> str:
    return HELP.get(family) or HELP[family.rpartition("_")[0]]
