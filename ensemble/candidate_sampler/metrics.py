"""What the sampler counts: sums over each batch in numpy, sent to Triton's metrics once a second.

A call to Triton's metrics waits for the server's process, some 10 µs when it is idle and milliseconds when it
is not, and a histogram takes one value a call. So everything is counted here, a histogram's buckets included,
under the names that Prometheus gives them, and a thread of its own sends what was added.
"""

import threading
from collections.abc import Sequence
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
BASKET_SIZES: Final = np.array([0, 1, 2, 3, 5, 10, 20, 50, 100, 200, np.inf])
SECONDS: Final = np.array([0.25e-3, 0.5e-3, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1, np.inf])

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
    """What one process has counted since it started. ``values[i]`` belongs to ``series[i]``."""

    def __init__(self) -> None:
        groups = [
            [Series("cesta_sampler_queries_total", {"user": u, "basket": b}) for u in USERS for b in BASKETS],
            [Series("cesta_sampler_item_ids_total", {"item": name}) for name in ("known", "unknown")],
            [Series("cesta_sampler_candidates_total", {"source": name}) for name in SOURCES],
            [Series("cesta_sampler_refused_total", {})],
            _histogram("cesta_sampler_basket_items", BASKET_SIZES),
            *(_histogram("cesta_sampler_stage_seconds", SECONDS, stage=stage) for stage in STAGES),
        ]
        self.series = [series for group in groups for series in group]
        self.values = np.zeros(len(self.series))
        parts = np.split(self.values, np.cumsum([len(group) for group in groups])[:-1])  # views
        self._queries, self._items, self._candidates, self._refused, self._sizes, *stages = parts
        self._stages = dict(zip(STAGES, stages, strict=True))

    def sampled(self, queries: Sequence[Query], sources: NDArray[np.int32]) -> None:
        """Count a batch of queries, and by their (batch, C) sources what was proposed to them."""
        batch = len(queries)
        known = np.fromiter((len(q.basket) for q in queries), np.int64, batch)
        unknown = np.fromiter((q.unknown_items for q in queries), np.int64, batch)
        users = np.fromiter((q.named + (q.user_row > 0) for q in queries), np.int64, batch)
        baskets = (known > 0) + (known + unknown > 0).astype(np.int64)
        self._queries += np.bincount(users * len(BASKETS) + baskets, minlength=len(self._queries))
        self._items += known.sum(), unknown.sum()
        masks = np.bincount(sources.ravel(), minlength=len(_BITS_OF))
        self._candidates += masks @ _BITS_OF
        _observe(self._sizes, BASKET_SIZES, known + unknown)

    def refused(self, requests: int) -> None:
        """Count requests that were refused."""
        self._refused += requests

    def took(self, stage: str, seconds: float) -> None:
        """Count what one of STAGES took for a batch."""
        _observe(self._stages[stage], SECONDS, np.array([seconds]))


class Reporter:
    """Sends what a tally gained to Triton's metrics, every ``period_s`` and once more at the end.

    ``family`` is ``pb_utils.MetricFamily``; ``labels`` tell this process from others of the same server.
    """

    def __init__(self, tally: Tally, family: Any, labels: dict[str, str], period_s: float = 1.0):
        names = dict.fromkeys(series.family for series in tally.series)
        self._families = {name: family(name, _help(name), family.COUNTER) for name in names}
        self._metrics = [self._families[name].Metric(own | labels) for name, own in tally.series]
        self._tally, self._sent, self._period_s = tally, np.zeros_like(tally.values), period_s
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send the rest and end. A server that is gone is not waited for."""
        self._ending.set()
        self._thread.join(timeout=2)

    def _run(self) -> None:
        while not self._ending.wait(self._period_s):
            self._send()
        self._send()

    def _send(self) -> None:
        values = self._tally.values.copy()  # what a pass adds meanwhile is sent the next time
        gained = values - self._sent
        for place in np.flatnonzero(gained)[::-1]:  # a histogram's buckets last to first: they stay in order
            self._metrics[place].increment(float(gained[place]))
        self._sent = values


# (masks, sources): which sources a candidate's mask names.
_BITS_OF: Final = (np.arange(2 ** len(SOURCES))[:, None] & np.array(list(SOURCES.values()))) > 0


def _histogram(name: str, edges: NDArray[np.float64], **labels: str) -> list[Series]:
    """Cumulative buckets, then sum and count."""
    bounds = [*(f"{edge:g}" for edge in edges[:-1]), "+Inf"]
    buckets = [Series(f"{name}_bucket", labels | {"le": bound}) for bound in bounds]
    return [*buckets, Series(f"{name}_sum", labels), Series(f"{name}_count", labels)]


def _observe(histogram: NDArray[np.float64], edges: NDArray[np.float64], values: NDArray[Any]) -> None:
    histogram[:-2] += (values[:, None] <= edges).sum(axis=0)
    histogram[-2:] += values.sum(), len(values)


def _help(family: str) -> str:
    return HELP.get(family) or HELP[family.rpartition("_")[0]]
