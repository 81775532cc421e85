"""EASE on receipts: a closed form that predicts an item of a receipt from the others (Steck 2019).

A row of its matrix is a receipt, so it needs no users. Its best sellers get the sum of the basket's weights,
and all items get their recency: what a known user bought, decayed by exp(-age / 60 days). Popularity breaks
ties, and orders what is beyond the best sellers.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.query import Query
from export_scripts.quality import baselines
from export_scripts.quality.baselines import TIE_BREAK, Pool, Scores
from export_scripts.quality.metrics import Placement, place
from export_scripts.quality.rankers import QueryBatch

Weights = NDArray[np.float32]


class EaseOnReceipts:
    """Ranks all items that can be recommended by the weights of the best sellers."""

    NAME: Final = "EASE on receipts"
    names = (NAME,)

    def __init__(self, arrays: SamplerArrays, weights: Weights, recency: float, note: str = ""):
        """``weights`` (n, n) are those of the n best sellers, from the item of the row to that of the column.

        ``recency`` is the weight of the user's own purchases.
        """
        self._arrays, self._pool = arrays, Pool(arrays)
        self._weights, self._recency, self.note = weights, recency, note

    def place(self, batch: QueryBatch) -> dict[str, Placement]:
        pool = self._pool
        scores = np.stack([self._score(query) for query in batch.queries])
        return {self.NAME: place(pool.rows, scores, batch.hidden, batch.bought)}

    def _score(self, query: Query) -> Scores:
        """(pool,), the items of the basket at -inf."""
        pool, n = self._pool, len(self._weights)
        values = TIE_BREAK * pool.popularity
        if self._recency and query.user_row:
            values += self._recency * pool.recency(baselines.past(self._arrays, query))
        scores = values.astype(np.float32)
        columns = pool.columns[query.basket]
        scores[:n] += self._weights[columns[(columns >= 0) & (columns < n)]].sum(axis=0)
        return pool.without(scores, query)
