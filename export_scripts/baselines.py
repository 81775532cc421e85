"""Rankers that need no training: what a model must beat to be worth its keep.

Each scores the whole catalog for one query, from the same arrays that the sampler uses: (items,) float32,
higher is better. Popularity breaks ties, so that a user's unbought items are not ranked by row number.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.query import Query

Scores = NDArray[np.float32]
Ranker = Callable[[SamplerArrays, Query], Scores]

TIE_BREAK = 1e-6  # times a popularity below 10: less than any count, decay or cosine that differs


def popularity(a: SamplerArrays, query: Query) -> Scores:
    """Log share of baskets."""
    return np.array(a.popularity.score)


def personal_frequency(a: SamplerArrays, query: Query) -> Scores:
    """Number of the user's past baskets with the item."""
    _, _, items = _past(a, query)
    return _tie_broken(a, np.bincount(items, minlength=len(a.popularity.score)))


def personal_recency(a: SamplerArrays, query: Query) -> Scores:
    """Sum over the user's purchases of exp(-age / 60 days)."""
    ages, sizes, items = _past(a, query)
    weights = np.repeat(np.exp(-ages / 60), sizes)
    return _tie_broken(a, np.bincount(items, weights, minlength=len(a.popularity.score)))


def cooccurrence(a: SamplerArrays, query: Query) -> Scores:
    """Sum of co-occurrence cosines with the items of the basket."""
    scores = np.zeros(len(a.popularity.score))
    for item in query.basket:
        near = slice(a.neighbours.offsets[item], a.neighbours.offsets[item + 1])
        scores[a.neighbours.items[near]] += a.neighbours.cosine[near]
    return _tie_broken(a, scores)


def overlap(a: SamplerArrays, query: Query) -> Scores:
    """Own past baskets with the item, weighted by cosine with this basket and exp(-age / 60 days)."""
    ages, sizes, items = _past(a, query)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    common = np.bincount(owner, np.isin(items, query.basket), minlength=len(sizes))
    weights = common / np.sqrt(np.maximum(sizes * max(len(query.basket), 1), 1)) * np.exp(-ages / 60)
    return _tie_broken(a, np.bincount(items, weights[owner], minlength=len(a.popularity.score)))


def blend(a: SamplerArrays, query: Query) -> Scores:
    """recency + 1.5 cosine + .5 overlap: the best untrained sum of the three."""
    return personal_recency(a, query) + 1.5 * cooccurrence(a, query) + 0.5 * overlap(a, query)


RANKERS: dict[str, Ranker] = {
    "popularity": popularity,
    "personal frequency": personal_frequency,
    "personal recency": personal_recency,
    "co-occurrence": cooccurrence,
    "overlap": overlap,
    "blend": blend,
}


def _past(a: SamplerArrays, query: Query) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int32]]:
    """Ages in days and sizes of the user's baskets before the query, and their items, flat."""
    h = a.histories
    now = int(a.clock.now) if query.now is None else query.now
    start, end = h.user_offsets[query.user_row], h.user_offsets[query.user_row + 1]
    end = start + np.searchsorted(h.times[start:end], now)
    sizes = np.diff(h.basket_offsets[start : end + 1])
    items = h.items[h.basket_offsets[start] : h.basket_offsets[end]]
    return (now - h.times[start:end]) / float(a.clock.day), sizes, items


def _tie_broken(a: SamplerArrays, scores: NDArray[np.float64] | NDArray[np.int64]) -> Scores:
    return (scores + TIE_BREAK * a.popularity.score).astype(np.float32)
