"""The best K of the whole catalog for each query, by the served graph, with the served reasons.

The sampler itself gives the features: it fills its list up until it has all items. That makes each of them a
best seller. So the reasons come from the sampler as it is served, with room for all that its sources propose.
An item that no source proposes has no reason.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays, load_arrays, load_limits
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.nearest import Nearest
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.scoring.graph import ChunkScorer
from operations.releases.models.files import ReleaseFiles

CHUNK: Final = 4096  # items for the graph at once: what a layer passes on fits into a core's cache
BATCH: Final = 64  # queries at once, of a small catalog

Rows = NDArray[np.int32]
Scores = NDArray[np.float32]


class Ranked(NamedTuple):
    """The best items of one query, best first; equal scores by row. Shorter than K if there are no more."""

    rows: Rows
    scores: Scores
    reasons: Rows  # bits of sources.py


class WholeCatalogSampler(CandidateSampler):
    """Hands over all items: its list is filled up with every row, in place of the best sellers.

    The order of the rows is that of the tables, which takes a third of the time of any other order.
    """

    def __init__(self, arrays: SamplerArrays, limits: dict[str, int], nearest: Nearest, multiple: int):
        items = len(arrays.popularity.score)
        capacity = -(-items // multiple) * multiple  # padded with row 0
        super().__init__(arrays, limits | {"fill": items, "width": items, "capacity": capacity}, nearest)
        self._derived = self._derived._replace(best_first=np.arange(1, items, dtype=np.int32))


class CatalogRanker:
    """Ranks all items of one release. Not thread-safe, as its samplers."""

    def __init__(self, files: ReleaseFiles):
        arrays, limits = load_arrays(files.arrays), load_limits(files.arrays)
        nearest, self.items = Nearest.load(files.arrays, arrays, limits), len(arrays.popularity.score)
        self._chunk = min(CHUNK, self.items)
        self._batch = max(min(CHUNK // self.items, BATCH), 1)
        self._whole = WholeCatalogSampler(arrays, limits, nearest, self._chunk)
        proposed = min(self.items, limits["width"])
        self._proposing = CandidateSampler(arrays, limits | {"capacity": proposed}, nearest)
        self.serving = CandidateSampler(arrays, limits, nearest)
        self._scorer = ChunkScorer(files.graph, files.contract, self._chunk)
        self.vocabulary = self.serving.vocabulary()

    @property
    def arrays(self) -> SamplerArrays:
        return self.serving.arrays

    def rank(self, queries: Sequence[Query], k: int) -> list[Ranked]:
        """The best ``k`` items of each query; those of its basket and its excluded ones never."""
        starts = range(0, len(queries), self._batch)
        return [one for start in starts for one in self._rank(queries[start : start + self._batch], k)]

    def _rank(self, batch: Sequence[Query], k: int) -> list[Ranked]:
        found = self._whole.sample(batch)
        scores, reasons = self._score(batch, found), self.proposals(batch)
        ranked = []
        for rows, scored, proposed in zip(found.rows, scores, reasons, strict=True):
            places = best(scored, rows, k)
            ranked.append(Ranked(rows[places], scored[places], proposed[rows[places]]))
        return ranked

    def proposals(self, queries: Sequence[Query]) -> Rows:
        """(batch, items): the bits of the sources that propose each item to each query; 0: none does."""
        found = self.propose(queries)
        reasons = np.zeros((len(queries), self.items), np.int32)
        np.put_along_axis(reasons, found.rows, found.sources, axis=1)  # padding is row 0 without a source
        return reasons

    def propose(self, queries: Sequence[Query]) -> Candidates:
        """All items that the sources propose, before the prior chooses the candidates."""
        return self._proposing.sample(queries)

    def _score(self, queries: Sequence[Query], found: Candidates) -> Scores:
        users = np.array([[query.user_row] for query in queries], np.int32)
        asked = np.concatenate([users, self._whole.basket_rows(queries)], axis=1)
        scores = np.empty(found.rows.shape, np.float32)
        for start in range(0, self._whole.capacity, self._chunk):
            part = slice(start, start + self._chunk)
            rows = np.concatenate([asked, found.rows[:, part], found.sources[:, part]], axis=1)
            scores[:, part] = self._scorer.score(rows, np.ascontiguousarray(found.features[:, part]))
        return scores


def best(scores: Scores, rows: Rows, k: int) -> NDArray[np.int64]:
    """Places of the ``k`` highest scores, best first, among those of real rows; equal ones by row."""
    real = np.count_nonzero(rows)
    if real > k:
        least = np.partition(scores, -k)[-k]  # padding has the lowest score of all
        places = np.flatnonzero((scores >= least) & (rows > 0))
    else:
        places = np.flatnonzero(rows)
    order = np.lexsort((rows[places], -scores[places]))
    return places[order[:k]]


@lru_cache(maxsize=1)  # for all partitions of this worker
def ranker_of(files: ReleaseFiles) -> CatalogRanker:
    """The ranker of a release, made once in each process."""
    return CatalogRanker(files.here())
