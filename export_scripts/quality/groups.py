"""The queries of a period by kind, and what is reported of a ranker for each kind."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from export_scripts.quality import baselines
from export_scripts.quality.metrics import Placed, Ranks, Rows, summary, variety
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.splits import HiddenItems, as_queries

LEAST_OWNERS = 20  # resampling fewer users says next to nothing; one alone would be certain of itself

Bools = NDArray[np.bool_]
Bounds = dict[str, tuple[int, int]]  # name → smallest and largest value


@dataclass(frozen=True)
class Groups:
    """Per query (n,): whose it is, whether the hidden item is a repeat, how many items ask."""

    shop: Shop
    arrays: SamplerArrays
    hidden: HiddenItems
    owners: NDArray[np.int64]
    repeat: Bools
    sizes: NDArray[np.int64]
    support: NDArray[np.int64]  # (items,) baskets with the item before the period
    baskets: int  # all baskets before the period
    resamples: int
    seed: int

    @classmethod
    def of(
        cls, shop: Shop, arrays: SamplerArrays, hidden: HiddenItems, start: int, settings: Settings
    ) -> "Groups":
        """Of the queries ``hidden`` in a period that begins with basket ``start``."""
        users = shop.users[hidden.baskets].astype(np.int64)
        return cls(
            shop=shop,
            arrays=arrays,
            hidden=hidden,
            # Users nobody knows are resampled by basket.
            owners=np.where(users > 0, users, shop.n_users + hidden.baskets),
            repeat=bought_before(shop, arrays, hidden, hidden.items[:, None])[:, 0],
            sizes=np.diff(shop.offsets)[hidden.baskets] - 1,
            support=counts.support(shop, start),
            baskets=start,
            resamples=settings.evaluate.bootstrap,
            seed=settings.train.seed,
        )

    def of_ranks(self, ranks: Ranks, keep: Bools | slice = slice(None)) -> dict[str, Any]:
        """Metrics, intervals and n of the queries to ``keep``; all rankers see the same resamples.

        Users are resampled, or baskets where fewer than LEAST_OWNERS users ask.
        """
        rng, owners = np.random.default_rng(self.seed), self.owners[keep]
        if len(np.unique(owners)) < LEAST_OWNERS:
            owners = self.hidden.baskets[keep]
        return summary(ranks[keep], owners, self.resamples, rng)

    def report(self, known: Placed, unknown: Placed) -> dict[str, Any]:
        """Of one ranker, asked with the user and without."""
        return {
            "known": self.of_ranks(known.ranks),
            "unknown": self.of_ranks(unknown.ranks),
            "repeat": self.of_ranks(known.ranks, self.repeat),
            "explore": self.of_ranks(known.ranks, ~self.repeat),
            "lists": self.lists(known.top),
        }

    def within(self, ranks: Ranks, values: NDArray[np.int64], bounds: Bounds) -> dict[str, Any]:
        """By the bin that a query's value (n,) falls into."""
        return {
            name: self.of_ranks(ranks, (values >= low) & (values <= high))
            for name, (low, high) in bounds.items()
        }

    def lists(self, top: Rows) -> dict[str, float | None]:
        """Variety of the lists, and the share of their places that known users fill with what they bought."""
        users = self.shop.users[self.hidden.baskets] > 0
        places = top[users] > 0
        again = bought_before(self.shop, self.arrays, self.hidden, top)[users]
        repeats = round(float(again[places].mean()), 4) if places.any() else None
        pool = self.arrays.popularity.order
        return {**variety(top, pool, self.support, self.baskets), "repeats": repeats}


def bought_before(shop: Shop, arrays: SamplerArrays, hidden: HiddenItems, rows: Rows) -> Bools:
    """(n, m) has the query's user bought the items ``rows`` (n, m) strictly before the query?"""
    seen = np.zeros(shop.n_items, bool)
    found = np.zeros(rows.shape, bool)
    for i, query in enumerate(as_queries(shop, hidden)):
        items = baselines.past(arrays, query).items
        seen[items] = True
        found[i] = seen[rows[i]]
        seen[items] = False
    return found
