"""One interface for everything that is measured: ours, the untrained baselines and the rivals.

A ranker is given a batch of queries with the sampler's candidates, which it may use or not, and says where
the hidden items came out. One object may stand for several rankers, when they share most of their work.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple, Protocol

import numpy as np

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.reference import Reference
from export_scripts.quality import baselines
from export_scripts.quality.baselines import Pool
from export_scripts.quality.metrics import TOP, Placed, Rows, Scores, place, ranks_in_lists
from export_scripts.scorer.graph import build_graph, fold
from export_scripts.scorer.ncf import NCF
from operations.records.contract import Contract


class Asked(NamedTuple):
    """A batch of queries, the item hidden from each (n,), and the sampler's candidates for them."""

    queries: list[Query]
    hidden: Rows
    candidates: Candidates


class Ranker(Protocol):
    """Places the hidden items of a batch: name → ranks and lists, for every one of ``names``."""

    names: Sequence[str]

    def place(self, asked: Asked) -> dict[str, Placed]: ...


class Served:
    """Ours, end to end: the graph that Triton serves, but for answering with the whole list.

    The served list ends at K = 20; MRR is about all of it. The first K are the same (a test holds that).
    """

    NAME: Final = "cesta"
    names = (NAME,)

    def __init__(
        self,
        model: NCF,
        item_ids: list[str],
        sampler: CandidateSampler,
        contract: Contract,
        answers: int | None = None,
    ):
        self.contract = replace(contract, candidates=sampler.capacity, answers=answers or sampler.capacity)
        graph = build_graph(fold(model), item_ids, self.contract).SerializeToString()
        self.reference = Reference(sampler, graph)
        self._ids = np.array(item_ids, object)
        self._rows = {item_id: row for row, item_id in enumerate(item_ids)}

    def place(self, asked: Asked) -> dict[str, Placed]:
        answers = self.reference.score(asked.queries, asked.candidates)
        top = [[self._rows[i] for i in ids] for ids in answers.item_ids[:, :TOP]]
        odds = np.exp(answers.scores - answers.scores[:, :1])  # best first: the softmax's usual shift
        chances = (odds / odds.sum(1, keepdims=True))[:, :TOP]
        ranks = ranks_in_lists(answers.item_ids, self._ids[asked.hidden])
        return {self.NAME: Placed(ranks, np.array(top, np.int32), chances)}


class Untrained:
    """The baselines, over all items that can be recommended."""

    names = tuple(baselines.RANKERS)

    def __init__(self, arrays: SamplerArrays):
        self._arrays, self._pool = arrays, Pool(arrays)

    def place(self, asked: Asked) -> dict[str, Placed]:
        pool = self._pool
        shape = (len(asked.queries), len(pool.rows))
        values = {name: np.empty(shape, np.float32) for name in baselines.RANKERS}
        for i, query in enumerate(asked.queries):
            found = baselines.evidence(self._arrays, pool, query)
            for name, scores in values.items():
                scores[i] = pool.without(baselines.scores(pool, name, found), query)
        return {name: place(pool.rows, scores, asked.hidden) for name, scores in values.items()}


def place_candidates(asked: Asked, scores: Scores) -> Placed:
    """Where ``scores`` (n, C) of the sampler's candidates put the hidden items."""
    return place(asked.candidates.rows, scores, asked.hidden)
