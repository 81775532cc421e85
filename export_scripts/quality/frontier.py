"""Repeat against explore: HR@10 of both kinds of query by the values of ``ranking.explore``.

One pass over the queries gives all values: another value moves the new items of a list by a constant, and
all other differences between scores stay.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.features import FEATURES
from export_scripts.quality.groups import Bools, Groups
from export_scripts.quality.metrics import MISSED, Placement, Ranks, Rows, Scores, gains
from export_scripts.quality.results import Frontier, FrontierPoint

VALUES: Final = (-5.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0)  # and those in use
NEW_TO_USER: Final = FEATURES.index("new_to_user")
DIGITS: Final = 4


def values_around(explore: float, chosen: float) -> tuple[float, ...]:
    """VALUES, the value in use and the one that validation chose, in order."""
    return tuple(sorted({*VALUES, explore, chosen}))


def is_new(rows: Rows, candidates: Candidates) -> Bools:
    """(n, C) which of the ranked ``rows``, a permutation of the candidates, are new to their user."""
    new = np.zeros(rows.shape, np.bool_)
    ranked, proposed = np.argsort(rows, axis=1), np.argsort(candidates.rows, axis=1)
    flags = candidates.features[:, :, NEW_TO_USER] > 0
    np.put_along_axis(new, ranked, np.take_along_axis(flags, proposed, 1), 1)
    return new


def moved_ranks(scores: Scores, new: Bools, ranks: Ranks, moves: Sequence[float]) -> NDArray[np.float64]:
    """(n, m) ranks of the hidden items after the ``new`` items' scores have changed by each of m ``moves``.

    ``scores`` and ``new`` (n, C) are in the order of the lists, and ``ranks`` (n,) are the places there. Of
    equal scores, the one that was before stays before.
    """
    moved = np.full((len(ranks), len(moves)), float(MISSED))
    found = np.flatnonzero(ranks < MISSED)
    scores, new, hidden = scores[found], new[found], ranks[found].astype(np.int64)[:, None]
    before = np.arange(scores.shape[1]) < hidden
    for k, move in enumerate(moves):
        values = scores + np.float32(move) * new
        own = np.take_along_axis(values, hidden, 1)
        moved[found, k] = ((values > own) | ((values == own) & before)).sum(1)
    return moved


def measure_frontier(groups: Groups, placed: Placement, explore: float, chosen: float) -> Frontier:
    """Summarise the moved ranks of ``placed``, whose moves are those from ``explore`` to ``values_around``.

    ``chosen`` is the value that validation chose. Without a query of both kinds there are no points.
    """
    has_both = groups.repeat.any() and (groups.named & ~groups.repeat).any()
    if placed.moved is None or not has_both:
        return {"explore": explore, "chosen": chosen, "points": []}
    values = zip(values_around(explore, chosen), placed.moved.T, strict=True)
    points = [_point(groups, value, ranks) for value, ranks in values]
    return {"explore": explore, "chosen": chosen, "points": points}


def _point(groups: Groups, value: float, ranks: Ranks) -> FrontierPoint:
    hr, ndcg, _ = gains(ranks).T

    def mean(values: NDArray[np.float64]) -> float:
        return round(float(values.mean()), DIGITS)

    return {
        "value": value,
        "hr_at_10": mean(hr),
        "ndcg_at_10": mean(ndcg),
        "repeat": mean(hr[groups.repeat]),
        "explore": mean(hr[~groups.repeat]),
    }
