"""The queries of a period by kind, and a ranker's metrics for each kind.

A query with a known user is a repeat if the user bought the hidden item before, and explore if not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from export_scripts.quality import baselines
from export_scripts.quality.metrics import Placement, Ranks, Rows, interval, summary, variety
from export_scripts.quality.results import Lists, RankerResult, Summary
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.splits import HiddenItems, as_queries

LEAST_OWNERS = 20  # resampling fewer users says little; a single user would give an interval of width 0

Bools = NDArray[np.bool_]
Bounds = dict[str, tuple[int, int]]  # name → smallest and largest value


@dataclass(frozen=True)
class Groups:
    """Properties of each query, (n,) where not said otherwise, and the settings of the bootstrap."""

    shop: Shop
    arrays: SamplerArrays
    hidden: HiddenItems
    owners: NDArray[np.int64]  # number of the query's user; of its basket for an unknown user
    repeat: Bools  # did the user buy the hidden item before?
    named: Bools  # does the basket name its user?
    sizes: NDArray[np.int64]  # items in the query's basket
    support: NDArray[np.int64]  # (items,) baskets with the item before the period
    baskets: int  # all baskets before the period
    resamples: int
    seed: int

    @classmethod
    def of(
        cls, shop: Shop, arrays: SamplerArrays, hidden: HiddenItems, start: int, settings: Settings
    ) -> "Groups":
        """Describe the queries ``hidden`` of a period that begins with basket ``start``."""
        users = shop.users[hidden.baskets].astype(np.int64)
        return cls(
            shop=shop,
            arrays=arrays,
            hidden=hidden,
            # Unknown users are resampled by basket.
            owners=np.where(users > 0, users, shop.n_users + hidden.baskets),
            repeat=bought_before(shop, arrays, hidden, hidden.items[:, None])[:, 0],
            named=users > 0,
            sizes=np.diff(shop.offsets)[hidden.baskets] - 1,
            support=counts.support(shop, start),
            baskets=start,
            resamples=settings.evaluate.bootstrap,
            seed=settings.train.seed,
        )

    def summarise(self, ranks: Ranks, chosen: Bools | slice = slice(None)) -> Summary:
        """Metrics, intervals and number of the ``chosen`` queries; all rankers get the same resamples.

        Users are resampled, or baskets if the queries come from fewer than LEAST_OWNERS users.
        """
        rng = np.random.default_rng(self.seed)
        return summary(ranks[chosen], drawn_owners(self, chosen), self.resamples, rng)

    def intervals(self, values: NDArray[np.float64], chosen: Bools) -> NDArray[np.float64]:
        """(m, 2) bounds of the means of ``values`` (chosen, m); the same resamples as in ``summarise``."""
        rng = np.random.default_rng(self.seed)
        return interval(values, drawn_owners(self, chosen), self.resamples, rng)

    def summarise_ranker(self, known: Placement, unknown: Placement) -> RankerResult:
        """Summarise one ranker by kind of query, from its placements with the users and without."""
        return {
            "known": self.summarise(known.ranks),
            "unknown": self.summarise(unknown.ranks),
            "repeat": self.summarise(known.ranks, self.repeat),
            "explore": self.summarise(known.ranks, ~self.repeat),
            "lists": self.describe_lists(known.top),
        }

    def summarise_bins(self, ranks: Ranks, values: NDArray[np.int64], bounds: Bounds) -> dict[str, Summary]:
        """Summarise the queries by the bin of their values (n,)."""
        return {
            name: self.summarise(ranks, (values >= low) & (values <= high))
            for name, (low, high) in bounds.items()
        }

    def describe_lists(self, top: Rows) -> Lists:
        """The variety of the lists, and the share of places in known users' lists that hold a repeat."""
        users = self.shop.users[self.hidden.baskets] > 0
        places = top[users] > 0
        bought = bought_before(self.shop, self.arrays, self.hidden, top)[users]
        repeats = round(float(bought[places].mean()), 4) if places.any() else None
        pool = self.arrays.popularity.order
        return {**variety(top, pool, self.support, self.baskets), "repeats": repeats}


def drawn_owners(groups: Groups, chosen: Bools | slice) -> NDArray[np.int64]:
    """Return the owners to resample for the ``chosen`` queries: users, or baskets if there are few users."""
    owners = groups.owners[chosen]
    return owners if len(np.unique(owners)) >= LEAST_OWNERS else groups.hidden.baskets[chosen]


def bought_before(shop: Shop, arrays: SamplerArrays, hidden: HiddenItems, rows: Rows) -> Bools:
    """(n, m) did the query's user buy the items ``rows`` (n, m) before the query?"""
    in_history = np.zeros(shop.n_items, bool)
    bought = np.zeros(rows.shape, bool)
    for i, query in enumerate(as_queries(shop, hidden)):
        items = baselines.past(arrays, query).items
        in_history[items] = True
        bought[i] = in_history[rows[i]]
        in_history[items] = False
    return bought
