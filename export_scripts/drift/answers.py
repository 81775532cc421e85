"""What sampler and scorer answer: the sources of the candidates, and the score of the first place."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.query import MAX_BASKET, Query
from ensemble.candidate_sampler.sources import SOURCES
from ensemble.reference import Reference
from export_scripts.drift.counting import Baskets, Floats, Ints

BATCH: Final = 64


class Answered(NamedTuple):
    """A sample of baskets, asked as they are at their time."""

    places: Ints  # (n,) which baskets
    sources: Floats  # (n, sources) candidates by source
    scores: NDArray[np.float32]  # (n,) of the first place


def answer(baskets: Baskets, reference: Reference, most: int) -> Answered:
    """Ask for at most ``most`` of the baskets, evenly over all of them."""
    n = min(most, len(baskets))
    places = np.unique(np.linspace(0, len(baskets) - 1, n).astype(np.int64)) if n else np.zeros(0, np.int64)
    sources, scores = [np.zeros((0, len(SOURCES)))], [np.zeros(0, np.float32)]
    for start in range(0, len(places), BATCH):
        queries = [_query(baskets, int(place)) for place in places[start : start + BATCH]]
        candidates = reference.sampler.sample(queries)
        bits = [(candidates.sources & bit > 0).sum(1) for bit in SOURCES.values()]
        sources.append(np.stack(bits, 1).astype(np.float64))
        scores.append(reference.score(queries, candidates).scores[:, 0])
    return Answered(places, np.concatenate(sources), np.concatenate(scores))


def _query(baskets: Baskets, place: int) -> Query:
    items = baskets.items[baskets.offsets[place] : baskets.offsets[place + 1]]
    return Query(
        user_row=int(baskets.users[place]),
        basket=sorted({row for row in items.tolist() if row})[:MAX_BASKET],
        now=int(baskets.times[place]),
    )
