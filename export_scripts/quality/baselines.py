"""Rankers that need no training: what a model must beat to be worth its keep.

All are sums of five readings of one query, taken from the same arrays that the sampler uses, over everything
that can be recommended: (pool,), higher is better. Popularity breaks ties, so that a user's unbought items
are not ranked by row number.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.query import Query

Values = NDArray[np.float64]
Scores = NDArray[np.float32]

TIE_BREAK: Final = 1e-6  # times a popularity below 10: less than any count, decay or cosine that differs
NO_COLUMN: Final = -1


class Evidence(NamedTuple):
    """(pool,) each: what speaks for the items, for one query."""

    popularity: Values  # log share of baskets
    frequency: Values  # the user's past baskets with the item
    recency: Values  # sum over the user's purchases of exp(-age / 60 days)
    cosine: Values  # sum of co-occurrence cosines with the items of the basket
    overlap: Values  # own past baskets with it, by cosine with this basket and exp(-age / 60 days)


RANKERS: Final[dict[str, Callable[[Evidence], Values]]] = {
    "popularity": lambda e: e.popularity,
    "personal frequency": lambda e: e.frequency,
    "personal recency": lambda e: e.recency,
    "co-occurrence": lambda e: e.cosine,
    "overlap": lambda e: e.overlap,
    ".5 recency + cosine + overlap": lambda e: 0.5 * e.recency + e.cosine + e.overlap,
    "recency + 1.5 cosine + .5 overlap": lambda e: e.recency + 1.5 * e.cosine + 0.5 * e.overlap,
}


class Pool:
    """What can be recommended: ``rows`` (pool,), best seller first, and each item's column there."""

    def __init__(self, arrays: SamplerArrays):
        self.rows = np.asarray(arrays.popularity.order)
        self.popularity: Values = np.asarray(arrays.popularity.score, np.float64)[self.rows]
        self.columns = np.full(len(arrays.popularity.score), NO_COLUMN)
        self.columns[self.rows] = np.arange(len(self.rows))

    def sums(self, items: NDArray[np.int32], weights: NDArray[np.generic] | None = None) -> Values:
        """(pool,) sums of the ``weights`` (default 1) of ``items``."""
        columns = self.columns[items]
        inside = columns != NO_COLUMN
        weights = weights[inside] if weights is not None else np.ones(inside.sum())
        return np.bincount(columns[inside], weights, minlength=len(self.rows))

    def without(self, scores: Scores, query: Query) -> Scores:
        """The basket's items taken out of ``scores`` (pool,), in place."""
        columns = self.columns[query.basket]
        scores[columns[columns != NO_COLUMN]] = -np.inf
        return scores


class Past(NamedTuple):
    """A user's baskets strictly before a query."""

    ages: Values  # (baskets,) in days
    sizes: NDArray[np.int64]  # (baskets,)
    items: NDArray[np.int32]  # flat, basket after basket


def past(a: SamplerArrays, query: Query) -> Past:
    """What the query's user bought before it; nothing for the unknown user."""
    h = a.histories
    now = int(a.clock.now) if query.now is None else query.now
    start, end = h.user_offsets[query.user_row], h.user_offsets[query.user_row + 1]
    end = start + np.searchsorted(h.times[start:end], now)
    sizes = np.diff(h.basket_offsets[start : end + 1])
    items = h.items[h.basket_offsets[start] : h.basket_offsets[end]]
    return Past((now - h.times[start:end]) / float(a.clock.day), sizes, items)


def evidence(a: SamplerArrays, pool: Pool, query: Query) -> Evidence:
    """The five readings of one query."""
    ages, sizes, items = past(a, query)
    in_basket = np.zeros(len(pool.columns), bool)
    in_basket[query.basket] = True
    common = np.zeros(len(items) + 1, np.int64)
    np.cumsum(in_basket[items], out=common[1:])
    ends = np.cumsum(sizes)
    alike = (common[ends] - common[ends - sizes]) / np.sqrt(np.maximum(sizes * max(len(query.basket), 1), 1))
    decay = np.exp(-ages / 60)
    partners, cosines = _partners(a, query)
    return Evidence(
        popularity=pool.popularity,
        frequency=pool.sums(items),
        recency=pool.sums(items, np.repeat(decay, sizes)),
        cosine=pool.sums(partners, cosines),
        overlap=pool.sums(items, np.repeat(decay * alike, sizes)),
    )


def scores(pool: Pool, ranker: str, e: Evidence) -> Scores:
    """(pool,) of one ranker, popularity breaking its ties."""
    return (RANKERS[ranker](e) + TIE_BREAK * pool.popularity).astype(np.float32)


def _partners(a: SamplerArrays, query: Query) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    offsets = a.neighbours.offsets
    near = [slice(offsets[item], offsets[item + 1]) for item in query.basket]
    items = [a.neighbours.items[part] for part in near]
    cosines = [a.neighbours.cosine[part] for part in near]
    return np.concatenate([np.zeros(0, np.int32), *items]), np.concatenate(
        [np.zeros(0, np.float32), *cosines]
    )
