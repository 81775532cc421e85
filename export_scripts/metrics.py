"""Ranking metrics over Protocol W queries, with intervals by bootstrap over users.

rank 0 is the top. HR@10 = share with rank < 10; NDCG@10 = mean of 1 / log2(rank + 2) below 10, since one item
is hidden per query; MRR = mean of 1 / (rank + 1). A rank of ``MISSED`` is an item that was not returned.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MISSED: Final = 2**31 - 1
NAMES: Final = ("hr_at_10", "ndcg_at_10", "mrr")

Ranks = NDArray[np.float64]


def gains(ranks: Ranks) -> NDArray[np.float64]:
    """(n,) ranks → (n, 3) contribution of every query to HR@10, NDCG@10 and MRR."""
    top = ranks < 10
    missed = ranks >= MISSED
    return np.column_stack([top, top / np.log2(ranks + 2), np.where(missed, 0, 1 / (ranks + 1))])


def summary(
    ranks: Ranks, owners: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> dict[str, Any]:
    """Means, 95 % intervals and n of a group of queries.

    ``owners`` (n,) is who a query belongs to: queries of one user are alike, so users are what is resampled.
    """
    n = len(ranks)
    if n == 0:
        return dict.fromkeys(NAMES) | {"interval": None, "n": 0}
    values = gains(ranks)
    _, owner = np.unique(owners, return_inverse=True)
    sums = np.column_stack([np.bincount(owner, column) for column in (*values.T, np.ones(n))])
    weights = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    drawn = weights @ sums
    means = drawn[:, :-1] / drawn[:, -1:]
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    bounds = np.column_stack([low, high]).round(4).tolist()
    return {
        **dict(zip(NAMES, values.mean(0).round(4).tolist(), strict=True)),
        "interval": dict(zip(NAMES, bounds, strict=True)),
        "n": n,
    }


def ranks_in_lists(rows: NDArray[np.object_], hidden: NDArray[np.object_]) -> Ranks:
    """(n, K) returned ids and (n,) hidden ids → (n,) ranks, MISSED where the id is not in the list."""
    hits = rows == hidden[:, None]
    return np.where(hits.any(1), hits.argmax(1), MISSED).astype(np.float64)


def rank_in_scores(scores: NDArray[np.float32], item: int | np.integer) -> float:
    """Rank of ``item`` in dense scores; ties count half, so that a constant scorer gains nothing."""
    better = int((scores > scores[item]).sum())
    ties = int((scores == scores[item]).sum()) - 1
    return better + ties / 2
