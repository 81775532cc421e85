"""One interface for all rankers that are measured: cesta itself, the untrained baselines and the rivals.

A ranker gets a batch of queries with the sampler's candidates, which it may use or ignore, and returns the
ranks of the hidden items. One object may hold several rankers that share most of their work.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.reference import Reference
from export_scripts.quality import baselines
from export_scripts.quality.baselines import Pool
from export_scripts.quality.frontier import is_new, moved_ranks
from export_scripts.quality.metrics import (
    MISSED,
    TOP,
    Bought,
    Placement,
    Ranks,
    Rows,
    Scores,
    place,
    ranks_in_lists,
)
from operations.records.contract import GRAPH

NO_CANDIDATES: Final = Candidates(
    np.zeros((0, 0), np.int32), np.zeros((0, 0, 0), np.float32), np.zeros((0, 0), np.int32)
)

MadeFrom = tuple[Mapping[str, bytes], list[str], CandidateSampler, Sequence[float]]  # of a ServedRanker


class QueryBatch(NamedTuple):
    """A batch of queries, the item hidden from each (n,), and the sampler's candidates for them."""

    queries: list[Query]
    hidden: Rows
    candidates: Candidates
    bought: Bought | None = None  # by the customers before, whether the queries name them or not


class Ranker(Protocol):
    """Ranks the hidden items of a batch; the result holds a placement for each of ``names``."""

    @property
    def names(self) -> Sequence[str]: ...

    def place(self, batch: QueryBatch) -> dict[str, Placement]: ...


class ServedRanker:
    """Cesta from end to end: the graph that Triton serves, except that it answers with all candidates.

    The served list ends at K = 20, but MRR is about all candidates. The first K are the same; a test compares
    them. ``graph`` holds the files of ``served_ranker`` by name. Each of the ``moves``, log odds, is added to
    the items new to the user, for a rank of its own.
    """

    NAME: Final = "cesta"
    names = (NAME,)

    def __init__(
        self,
        graph: Mapping[str, bytes],
        item_ids: list[str],
        sampler: CandidateSampler,
        moves: Sequence[float] = (),
    ):
        self._made_from, self._moves = (graph, item_ids, sampler, moves), moves
        with tempfile.TemporaryDirectory() as folder:  # the session maps its files, which need no names then
            for name, content in graph.items():
                Path(folder, name).write_bytes(content)
            self.reference = Reference(sampler, Path(folder, GRAPH))
        self._ids = np.array(item_ids, object)
        self._rows = {item_id: row for row, item_id in enumerate(item_ids)}

    def __reduce__(self) -> tuple[type["ServedRanker"], MadeFrom]:
        """A worker makes it again: a session of ONNX Runtime cannot be pickled."""
        return ServedRanker, self._made_from

    def place(self, batch: QueryBatch) -> dict[str, Placement]:
        answers = self.reference.score(batch.queries, batch.candidates)
        ranked = answers.item_ids if self._moves else answers.item_ids[:, :TOP]
        rows = np.array([[self._rows[i] for i in ids] for ids in ranked], np.int32)
        odds = np.exp(answers.scores - answers.scores[:, :1])  # best first: the softmax's usual shift
        chances = (odds / odds.sum(1, keepdims=True))[:, :TOP]
        ranks = ranks_in_lists(answers.item_ids, self._ids[batch.hidden])
        bought = batch.bought or Bought.nothing(len(ranks))
        new_ranks = self._ranks_of_new(answers.item_ids, ranks, batch.hidden, bought)
        moved = None
        if self._moves:
            new = is_new(rows, batch.candidates)
            moved = moved_ranks(answers.scores, new, ranks, self._moves)
        return {self.NAME: Placement(ranks, rows[:, :TOP], new_ranks, chances, moved)}

    def _ranks_of_new(
        self, item_ids: NDArray[np.object_], ranks: Ranks, hidden: Rows, bought: Bought
    ) -> Ranks:
        """(n,) ranks of the ``hidden`` items in the lists without what was bought before."""
        new_ranks = ranks.copy()
        for i in np.flatnonzero(ranks < MISSED).tolist():
            past = set(bought.of(i).tolist())
            better = sum(self._rows[item_id] in past for item_id in item_ids[i, : int(ranks[i])])
            new_ranks[i] = MISSED if int(hidden[i]) in past else ranks[i] - better
        return new_ranks


class UntrainedRankers:
    """The baselines, each over all items that can be recommended."""

    def __init__(self, arrays: SamplerArrays, names: Sequence[str] = tuple(baselines.RANKERS)):
        self._arrays, self._pool, self.names = arrays, Pool(arrays), names

    def place(self, batch: QueryBatch) -> dict[str, Placement]:
        pool = self._pool
        shape = (len(batch.queries), len(pool.rows))
        values = {name: np.empty(shape, np.float32) for name in self.names}
        for i, query in enumerate(batch.queries):
            evidence = baselines.evidence(self._arrays, pool, query)
            for name, scores in values.items():
                scores[i] = pool.without(baselines.scores(pool, name, evidence), query)
        return {name: place(pool.rows, scores, batch.hidden, batch.bought) for name, scores in values.items()}


def place_candidates(batch: QueryBatch, scores: Scores) -> Placement:
    """Rank the hidden items by the ``scores`` (n, C) of the sampler's candidates."""
    return place(batch.candidates.rows, scores, batch.hidden, batch.bought)
