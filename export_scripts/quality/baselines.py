"""Rankers that need no training; a trained model must beat them to be worth its cost.

Each is a weighted sum of five signals for one query, computed from the sampler's arrays for every item that
can be recommended: (pool,), higher is better. Popularity breaks ties; otherwise the items that a user never
bought would be ranked by row number.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.query import Query
from export_scripts.quality.metrics import Bought

Values = NDArray[np.float64]
Scores = NDArray[np.float32]

TIE_BREAK: Final = 1e-6  # times a popularity below 10: less than any difference of counts, decays or cosines
NO_COLUMN: Final = -1


class Evidence(NamedTuple):
    """The five signals for one query, (pool,) each."""

    popularity: Values  # log share of baskets
    frequency: Values  # the user's past baskets with the item
    recency: Values  # sum over the user's purchases of exp(-age / 60 days)
    cosine: Values  # sum of co-occurrence cosines with the items of the basket
    overlap: (
        Values  # the user's past baskets with the item, times cosine with this basket and exp(-age / 60 days)
    )


RANKERS: Final[dict[str, Callable[[Evidence], Values]]] = {
    "popularity": lambda e: e.popularity,
    "personal frequency": lambda e: e.frequency,
    "personal recency": lambda e: e.recency,
    "co-occurrence": lambda e: e.cosine,
    "overlap": lambda e: e.overlap,
    ".5 recency + cosine + overlap": lambda e: 0.5 * e.recency + e.cosine + e.overlap,
    "recency + 1.5 cosine + .5 overlap": lambda e: e.recency + 1.5 * e.cosine + 0.5 * e.overlap,
}


WITHOUT_USERS: Final = ("popularity", "co-occurrence")  # the others equal one of these without a user


class Pool:
    """The items that can be recommended: ``rows`` (pool,), best seller first, and the column of each item."""

    def __init__(self, arrays: SamplerArrays):
        self.rows = np.asarray(arrays.popularity.order)
        self.popularity: Values = np.asarray(arrays.popularity.score, np.float64)[self.rows]
        self.columns = np.full(len(arrays.popularity.score), NO_COLUMN)
        self.columns[self.rows] = np.arange(len(self.rows))

    def sums(self, items: NDArray[np.int32], weights: NDArray[np.generic] | None = None) -> Values:
        """Sum the ``weights`` (default 1) of ``items`` by item: (pool,)."""
        columns = self.columns[items]
        inside = columns != NO_COLUMN
        weights = weights[inside] if weights is not None else np.ones(inside.sum())
        sums = np.bincount(columns[inside], weights, minlength=len(self.rows))
        return sums.astype(np.float64, copy=False)  # with weights it is float64, whatever numpy's stubs say

    def recency(self, past: "Past") -> Values:
        """Sum exp(-age / 60 days) over a user's purchases by item: (pool,)."""
        return self.sums(past.items, np.repeat(past.decay, past.sizes))

    def without(self, scores: Scores, query: Query) -> Scores:
        """Set the ``scores`` (pool,) of the basket's items to -inf, in place."""
        columns = self.columns[query.basket]
        scores[columns[columns != NO_COLUMN]] = -np.inf
        return scores


class Past(NamedTuple):
    """A user's baskets strictly before a query."""

    ages: Values  # (baskets,) in days
    sizes: NDArray[np.int64]  # (baskets,)
    items: NDArray[np.int32]  # flat, basket after basket

    @property
    def decay(self) -> Values:
        """(baskets,) exp(-age / 60 days)."""
        return np.exp(-self.ages / 60)


def past(arrays: SamplerArrays, query: Query) -> Past:
    """The baskets of the query's user before the query; none for the unknown user."""
    histories = arrays.histories
    now = int(arrays.clock.now) if query.now is None else query.now
    start, end = histories.user_offsets[query.user_row], histories.user_offsets[query.user_row + 1]
    end = start + np.searchsorted(histories.times[start:end], now)
    sizes = np.diff(histories.basket_offsets[start : end + 1])
    items = histories.items[histories.basket_offsets[start] : histories.basket_offsets[end]]
    return Past((now - histories.times[start:end]) / float(arrays.clock.day), sizes, items)


def bought_before(arrays: SamplerArrays, queries: list[Query]) -> Bought:
    """What the users of the queries bought before."""
    parts = [past(arrays, query).items for query in queries]
    offsets = np.concatenate(
        [np.zeros(1, np.int64), np.cumsum([len(part) for part in parts], dtype=np.int64)]
    )
    return Bought(np.concatenate([np.zeros(0, np.int32), *parts]), offsets)


def evidence(arrays: SamplerArrays, pool: Pool, query: Query) -> Evidence:
    """Compute the five signals for one query."""
    before = past(arrays, query)
    _, sizes, items = before
    in_basket = np.zeros(len(pool.columns), bool)
    in_basket[query.basket] = True
    common = np.zeros(len(items) + 1, np.int64)
    np.cumsum(in_basket[items], out=common[1:])
    ends = np.cumsum(sizes)
    similarity = (common[ends] - common[ends - sizes]) / np.sqrt(
        np.maximum(sizes * max(len(query.basket), 1), 1)
    )
    partners, cosines = _partners(arrays, query)
    return Evidence(
        popularity=pool.popularity,
        frequency=pool.sums(items),
        recency=pool.recency(before),
        cosine=pool.sums(partners, cosines),
        overlap=pool.sums(items, np.repeat(before.decay * similarity, sizes)),
    )


def scores(pool: Pool, ranker: str, evidence: Evidence) -> Scores:
    """The scores (pool,) of one ranker; popularity breaks ties."""
    return (RANKERS[ranker](evidence) + TIE_BREAK * pool.popularity).astype(np.float32)


def _partners(arrays: SamplerArrays, query: Query) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The co-occurring items of each item in the basket, end to end, and their cosines."""
    neighbours = arrays.neighbours
    parts = [slice(neighbours.offsets[item], neighbours.offsets[item + 1]) for item in query.basket]
    items = [neighbours.items[part] for part in parts]
    cosines = [neighbours.cosine[part] for part in parts]
    return np.concatenate([np.zeros(0, np.int32), *items]), np.concatenate(
        [np.zeros(0, np.float32), *cosines]
    )
