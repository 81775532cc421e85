"""What the sampler counts, sent to Triton's metrics once a second.

A call to Triton's metrics waits for the server's process, some 10 µs when it is idle and milliseconds when it
is not, and a histogram takes one value a call. So everything is counted here, a histogram's buckets included,
under the names that Prometheus gives them, and a thread of its own sends what was added. Counted in plain
Python: between two passes each numpy call costs 20 to 40 µs, for it finds the caches full of the catalog.
"""

import logging
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .groups import TENTHS, Groups
from .query import Query
from .sources import SOURCES

USERS: Final = (
    "none",
    "unknown",
    "known",
)  # no id given; not of this release; of this release
BASKETS: Final = ("empty", "unknown", "known")  # no ids given; none of this release; at least one
STAGES: Final = ("parse", "sample", "respond")
TURNS: Final = 10  # between two looks at the items' counts: some 60 series, each a call to Triton
BASKET_SIZES: Final = (0, 1, 2, 3, 5, 10, 20, 50, 100)
KEPT: Final = 10_000  # passes and baskets that wait to be added up: seconds of full load, 10 MB
SECONDS: Final = (0.25e-3, 0.5e-3, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.05, 0.1, 0.25, 1)

HELP: Final = {
    "cesta_sampler_queries_total": "Queries sampled, by what was known of their user and basket",
    "cesta_sampler_item_ids_total": "Distinct item ids in baskets, by whether the release holds them",
    "cesta_sampler_candidates_total": "Candidates of each pass's first query, by source",
    "cesta_sampler_basket_categories_total": "Known items in baskets, by best-selling category",
    "cesta_sampler_basket_tenths_total": "Known items in baskets, by tenth of the release's sales",
    "cesta_sampler_refused_total": "Requests refused for the caller's fault",
    "cesta_sampler_unknown_categories_total": "Queries with a category that the release does not know",
    "cesta_sampler_basket_items": "Distinct item ids of a query's basket",
    "cesta_sampler_stage_seconds": "Seconds that a pass over one batch spent in a stage",
}


class Series(NamedTuple):
    """One line of the metrics page: the name of its family and its labels."""

    family: str
    labels: dict[str, str]


class Tally:
    """What one process has counted since it started; counted by one thread, read by another."""

    def __init__(self, groups: Groups | None = None) -> None:
        self._queries = {(user, basket): 0 for user in USERS for basket in BASKETS}
        self._known_items = self._unknown_items = self._refused = self._unknown_categories = 0
        self._masks: NDArray[np.int64] = np.zeros(
            2 ** len(SOURCES), np.int64
        )  # candidates by `sources` value
        self._new: deque[bytes] = deque(maxlen=KEPT)  # not yet added to them; while nobody asks, the newest
        self._groups = groups
        self._baskets: deque[list[int]] = deque(maxlen=KEPT)  # likewise: known item rows, by query
        self._by_category: NDArray[np.int64] = np.zeros(len(groups.categories) if groups else 0, np.int64)
        self._by_tenth: NDArray[np.int64] = np.zeros(len(TENTHS), np.int64)
        self._turn = 0
        self._items: list[tuple[Series, float]] = []  # as of the last such look
        self._sizes = _Histogram("cesta_sampler_basket_items", BASKET_SIZES)
        self._stages = {s: _Histogram("cesta_sampler_stage_seconds", SECONDS, stage=s) for s in STAGES}

    def sampled(self, queries: Sequence[Query], sources: NDArray[np.int32]) -> None:
        """Count a batch of queries, and by the (batch, C) sources what was proposed to the first of them."""
        for query in queries:
            known, unknown = len(query.basket), query.unknown_items
            user = USERS[query.named + (query.user_row > 0)]
            self._queries[user, BASKETS[(known + unknown > 0) + (known > 0)]] += 1
            self._known_items += known
            self._unknown_items += unknown
            self._sizes.observe(known + unknown)
            if query.unknown_categories:
                self._unknown_categories += 1
        self._new.append(sources[0].tobytes())  # of one: looking at those of each query costs 3 % of a pass
        if self._groups:
            self._baskets.extend([query.basket for query in queries])  # their items are looked up later

    def refused(self, requests: int) -> None:
        """Count requests that were refused."""
        self._refused += requests

    def took(self, stage: str, seconds: float) -> None:
        """Count what one of STAGES took for a batch."""
        self._stages[stage].observe(seconds)

    def lines(self) -> list[tuple[Series, float]]:
        """All series with their totals, always the same ones in the same order."""
        new = np.frombuffer(b"".join(self._new.pop() for _ in range(len(self._new))), np.int32)
        self._masks += np.bincount(new, minlength=len(self._masks))
        self._look_up_items()
        if self._turn % TURNS == 0:
            self._items = self._item_lines()
        self._turn += 1
        name = "cesta_sampler_queries_total"
        counted = [
            *((Series(name, {"user": u, "basket": b}), n) for (u, b), n in self._queries.items()),
            (Series("cesta_sampler_item_ids_total", {"item": "known"}), self._known_items),
            (Series("cesta_sampler_item_ids_total", {"item": "unknown"}), self._unknown_items),
            *(
                (Series("cesta_sampler_candidates_total", {"source": source}), self._proposed_by(bit))
                for source, bit in SOURCES.items()
            ),
            *self._items,
            (Series("cesta_sampler_refused_total", {}), self._refused),
            (Series("cesta_sampler_unknown_categories_total", {}), self._unknown_categories),
        ]
        histograms = (self._sizes, *self._stages.values())
        return list(chain(counted, *(histogram.lines() for histogram in histograms)))

    def _look_up_items(self) -> None:
        """Add the items of the waiting baskets to the counts by group."""
        if not self._groups or not self._baskets:
            return
        waiting = chain.from_iterable(self._baskets.popleft() for _ in range(len(self._baskets)))
        rows = np.fromiter(waiting, np.int64)
        self._by_category += np.bincount(self._groups.category_of[rows], minlength=len(self._by_category))
        self._by_tenth += np.bincount(self._groups.tenth_of[rows], minlength=len(self._by_tenth))

    def _item_lines(self) -> list[tuple[Series, float]]:
        """The counts by group."""
        if not self._groups:
            return []
        categories, tenths = "cesta_sampler_basket_categories_total", "cesta_sampler_basket_tenths_total"
        labels = zip(self._groups.categories, self._by_category.tolist(), strict=True)
        return [
            *((Series(categories, {"category": label}), n) for label, n in labels),
            *(
                (Series(tenths, {"tenth": label}), n)
                for label, n in zip(TENTHS, self._by_tenth.tolist(), strict=True)
            ),
        ]

    def _proposed_by(self, bit: int) -> int:
        return int(self._masks[np.arange(len(self._masks)) & bit > 0].sum())


class _Histogram:
    """Counts by upper bound, not yet cumulative: that can wait until they are sent."""

    def __init__(self, name: str, bounds: tuple[float, ...], **labels: str) -> None:
        self._name, self._bounds, self._labels = name, bounds, labels
        self._counts, self._sum = [0] * (len(bounds) + 1), 0.0  # the last: above all bounds

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self) -> list[tuple[Series, float]]:
        """What Prometheus expects of a histogram: cumulative buckets, sum and count."""
        bounds = [*(f"{bound:g}" for bound in self._bounds), "+Inf"]
        totals = list(accumulate(self._counts))
        return [
            *(
                (Series(f"{self._name}_bucket", self._labels | {"le": bound}), total)
                for bound, total in zip(bounds, totals, strict=True)
            ),
            (Series(f"{self._name}_sum", self._labels), self._sum),
            (Series(f"{self._name}_count", self._labels), totals[-1]),
        ]


class Reporter:
    """Sends what a tally gained to Triton's metrics, every ``period_s`` and once more at the end.

    ``family`` is ``pb_utils.MetricFamily``; ``labels`` tell this process from others of the same server. What
    Triton does not take is logged, the first time, and sent the next time.
    """

    def __init__(self, tally: Tally, family: Any, labels: dict[str, str], period_s: float = 1.0):
        series = [line for line, _ in tally.lines()]
        names = dict.fromkeys(name for name, _ in series)
        self._families = {name: family(name, _help(name), family.COUNTER) for name in names}
        self._metrics = [self._families[name].Metric(own | labels) for name, own in series]
        self._tally, self._sent, self._period_s = tally, [0.0] * len(series), period_s
        self._failed = False
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
            self._try_to_send()
        self._try_to_send()

    def _try_to_send(self) -> None:
        try:
            self._send()
        except Exception as error:  # Triton's errors share no narrower class
            if not self._failed:
                logging.getLogger("cesta.sampler").warning(
                    "metrics are late, Triton does not take them: %r", error
                )
            self._failed = True

    def _send(self) -> None:
        totals = [total for _, total in self._tally.lines()]  # what comes meanwhile is sent the next time
        for place in reversed(range(len(totals))):  # a histogram's buckets last to first: always in order
            if totals[place] > self._sent[place]:
                self._metrics[place].increment(float(totals[place] - self._sent[place]))
                self._sent[place] = totals[place]  # at once: the next call may fail


def _help(family: str) -> str:
    return HELP.get(family) or HELP[family.rpartition("_")[0]]
