"""One interface for all rankers that are measured: cesta itself, the untrained baselines and the rivals.

A ranker gets a batch of queries with the sampler's candidates, which it may use or ignore, and returns the
ranks of the hidden items. One object may hold several rankers that share most of their work.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

import numpy as np

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.reference import Reference
from export_scripts.quality import baselines
from export_scripts.quality.baselines import Pool
from export_scripts.quality.metrics import TOP, Placement, Rows, Scores, place, ranks_in_lists


class QueryBatch(NamedTuple):
    """A batch of queries, the item hidden from each (n,), and the sampler's candidates for them."""

    queries: list[Query]
    hidden: Rows
    candidates: Candidates


class Ranker(Protocol):
    """Ranks the hidden items of a batch; the result holds a placement for each of ``names``."""

    @property
    def names(self) -> Sequence[str]: ...

    def place(self, batch: QueryBatch) -> dict[str, Placement]: ...


class ServedRanker:
    """Cesta from end to end: the graph that Triton serves, except that it answers with all candidates.

    The served list ends at K = 20, but MRR is about all candidates. The first K are the same; a test compares
    them. ``graph`` is that of ``served_ranker``.
    """

    NAME: Final = "cesta"
    names = (NAME,)

    def __init__(self, graph: bytes, item_ids: list[str], sampler: CandidateSampler):
        self._made_from = graph, item_ids, sampler
        self.reference = Reference(sampler, graph)
        self._ids = np.array(item_ids, object)
        self._rows = {item_id: row for row, item_id in enumerate(item_ids)}

    def __reduce__(self) -> tuple[type["ServedRanker"], tuple[bytes, list[str], CandidateSampler]]:
        """A worker makes it again: a session of ONNX Runtime cannot be pickled."""
        return ServedRanker, self._made_from

    def place(self, batch: QueryBatch) -> dict[str, Placement]:
        answers = self.reference.score(batch.queries, batch.candidates)
        top = [[self._rows[i] for i in ids] for ids in answers.item_ids[:, :TOP]]
        odds = np.exp(answers.scores - answers.scores[:, :1])  # best first: the softmax's usual shift
        chances = (odds / odds.sum(1, keepdims=True))[:, :TOP]
        ranks = ranks_in_lists(answers.item_ids, self._ids[batch.hidden])
        return {self.NAME: Placement(ranks, np.array(top, np.int32), chances)}


class UntrainedRankers:
    """The baselines, each over all items that can be recommended."""

    names = tuple(baselines.RANKERS)

    def __init__(self, arrays: SamplerArrays):
        self._arrays, self._pool = arrays, Pool(arrays)

    def place(self, batch: QueryBatch) -> dict[str, Placement]:
        pool = self._pool
        shape = (len(batch.queries), len(pool.rows))
        values = {name: np.empty(shape, np.float32) for name in baselines.RANKERS}
        for i, query in enumerate(batch.queries):
            evidence = baselines.evidence(self._arrays, pool, query)
            for name, scores in values.items():
                scores[i] = pool.without(baselines.scores(pool, name, evidence), query)
        return {name: place(pool.rows, scores, batch.hidden) for name, scores in values.items()}


def place_candidates(batch: QueryBatch, scores: Scores) -> Placement:
    """Rank the hidden items by the ``scores`` (n, C) of the sampler's candidates."""
    return place(batch.candidates.rows, scores, batch.hidden)
