"""The places of hidden items among candidates in the order of the prior, which decides what is kept."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.sources import SIMILAR, USUAL
from export_scripts.quality.metrics import MISSED, Ranks
from export_scripts.quality.questions import BATCH, Questions
from export_scripts.snapshots.splits import as_queries

Sources = NDArray[np.int32]

NONE_PLACED: Final[tuple[Ranks, Sources]] = (np.zeros(0), np.zeros(0, np.int32))


def place_by_prior(questions: Questions, chosen: range) -> tuple[Ranks, Sources]:
    """The places (n,) of the hidden items among the candidates by the prior, and their source bits.

    The sampler keeps the cold items that are near by content and the best n by the prior, so a longer list
    contains every shorter one.
    """
    sampler = questions.sampler
    weights, cold = sampler.arrays.prior.weights, np.ones(len(sampler.arrays.popularity.score), bool)
    cold[sampler.arrays.popularity.order] = False
    places, sources = [], []
    for hidden in questions.hidden.part(chosen).batches(BATCH):
        candidates = sampler.sample(as_queries(questions.shop, hidden))
        scores = np.where(candidates.rows > 0, candidates.features @ weights, -np.inf)
        near = (candidates.sources & (SIMILAR | USUAL) == SIMILAR) & cold[candidates.rows]
        scores[near] = np.inf  # first in every list
        hit = candidates.rows == hidden.items[:, None]
        hidden_scores = np.where(hit, scores, -np.inf).max(1, keepdims=True)
        places.append(np.where(hit.any(1), (scores > hidden_scores).sum(1), MISSED).astype(np.float64))
        sources.append(np.where(hit, candidates.sources, 0).sum(1, dtype=np.int32))
    return np.concatenate(places), np.concatenate(sources)
