"""Ranking metrics over Protocol W queries, with intervals by bootstrap over users.

rank 0 is the top. HR@10 = share with rank < 10; NDCG@10 = mean of 1 / log2(rank + 2) below 10, since one item
is hidden per query; MRR = mean of 1 / (rank + 1). A rank of ``MISSED`` is an item that was not returned.
"""

from typing import Any, Final, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

MISSED: Final = 2**31 - 1
TOP: Final = 10
NAMES: Final = ("hr_at_10", "ndcg_at_10", "mrr")
DRAWN_AT_ONCE = 2_000_000  # bootstrap weights in memory: a million users would fill it 1,000 times over

Ranks = NDArray[np.float64]
Rows = NDArray[np.int32]
Scores = NDArray[np.float32]


class Placed(NamedTuple):
    """What a ranker made of a batch of queries."""

    ranks: Ranks  # (n,) of the hidden item
    top: Rows  # (n, TOP) item rows, best first; 0 pads
    chances: NDArray[np.float32] | None = None  # (n, TOP) what the ranker takes their probabilities to be


def gains(ranks: Ranks) -> NDArray[np.float64]:
    """(n,) ranks → (n, 3) contribution of every query to HR@10, NDCG@10 and MRR."""
    top = ranks < TOP
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
    bounds = interval(values, owners, resamples, rng).round(4).tolist()
    return {
        **dict(zip(NAMES, values.mean(0).round(4).tolist(), strict=True)),
        "interval": dict(zip(NAMES, bounds, strict=True)),
        "n": n,
    }


def interval(
    values: NDArray[np.float64], owners: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(n, m) values of queries → (m, 2) bounds of the 95 % interval of their means, by resampled owners."""
    _, owner = np.unique(owners, return_inverse=True)
    sums = np.column_stack([np.bincount(owner, column) for column in (*values.T, np.ones(len(values)))])
    share = np.full(len(sums), 1 / len(sums))
    step = max(1, DRAWN_AT_ONCE // len(sums))
    drawn = np.concatenate(
        [
            rng.multinomial(len(sums), share, size=min(step, resamples - start)) @ sums
            for start in range(0, resamples, step)
        ]
    )
    return np.quantile(drawn[:, :-1] / drawn[:, -1:], [0.025, 0.975], axis=0).T


def ranks_in_lists(rows: NDArray[np.object_], hidden: NDArray[np.object_]) -> Ranks:
    """(n, K) returned ids and (n,) hidden ids → (n,) ranks, MISSED where the id is not in the list."""
    hits = rows == hidden[:, None]
    return np.where(hits.any(1), hits.argmax(1), MISSED).astype(np.float64)


def place(rows: Rows, scores: Scores, hidden: Rows) -> Placed:
    """Rank item ``rows`` ((m,), or (n, m) with 0 as padding) by ``scores`` (n, m); -inf is not ranked.

    Ties count half, so that a constant scorer gains nothing. A hidden item (n,) that is not ranked is MISSED.
    """
    rows = np.broadcast_to(rows, scores.shape)
    ranks, top = np.empty(len(scores)), np.zeros((len(scores), TOP), np.int32)
    _place(rows, np.ascontiguousarray(scores, np.float32), hidden, ranks, top)
    return Placed(ranks, top)


@numba.njit(cache=True)
def _place(rows, scores, hidden, ranks, top):  # type: ignore[no-untyped-def]
    best = np.empty(top.shape[1], np.float32)
    for i in range(scores.shape[0]):
        own = np.float32(-np.inf)
        for j in range(scores.shape[1]):
            if rows[i, j] == hidden[i]:
                own = scores[i, j]
        better, ties, kept = 0, -1, 0
        for j in range(scores.shape[1]):
            score = scores[i, j]
            if rows[i, j] == 0 or score == -np.inf:
                continue
            better += score > own
            ties += score == own
            if kept == best.shape[0] and score <= best[kept - 1]:
                continue
            kept = min(kept + 1, best.shape[0])
            at = kept - 1
            while at > 0 and best[at - 1] < score:
                best[at], top[i, at] = best[at - 1], top[i, at - 1]
                at -= 1
            best[at], top[i, at] = score, rows[i, j]
        ranks[i] = better + ties / 2 if own > -np.inf else MISSED


def variety(top: Rows, pool: Rows, support: NDArray[np.int64], baskets: int) -> dict[str, float | None]:
    """How wide and how unobvious the lists ``top`` (n, TOP) are; ``pool`` holds what can be recommended.

    ``coverage`` is the share of the pool in any list; ``effective_items`` exp of the entropy of what is
    recommended, the number of items that, shown equally often, would be as varied; ``gini`` 0 if all of the
    pool is shown alike and 1 if one item is; ``novelty`` the mean of -log2(share of baskets with the item),
    in bits (Vargas and Castells 2011), ``support`` (items,) counting those baskets.
    """
    shown = np.bincount(top.ravel(), minlength=len(support))
    shown[0] = 0
    if not shown.any():
        return dict.fromkeys(("coverage", "effective_items", "gini", "novelty"))
    share = shown[shown > 0] / shown.sum()
    ordered = np.sort(shown[pool])
    below = np.cumsum(ordered) / max(ordered.sum(), 1)
    bits = -np.log2(np.maximum(support, 1) / max(baskets, 1))
    return {
        "coverage": round(float((shown[pool] > 0).mean()), 4),
        "effective_items": round(float(np.exp(-(share * np.log(share)).sum())), 1),
        "gini": round(float(1 + 1 / len(pool) - 2 * below.mean()), 4),
        "novelty": round(float((shown * bits).sum() / shown.sum()), 2),
    }


def calibration(chances: NDArray[np.float32], ranks: Ranks, bins: int = 10) -> dict[str, Any]:
    """Predicted probabilities (n, TOP) of the list's places against how often the hidden item stood there.

    ``bins`` groups of equally many places, by predicted probability; ``expected`` is the HR@10 that the
    predictions promise, ``observed`` the one that came true.
    """
    n = len(ranks)
    if n == 0:
        return {"expected": None, "observed": None, "bins": []}
    hit = ranks[:, None] == np.arange(chances.shape[1])
    order = np.argsort(chances, axis=None, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    predicted, observed = chances.ravel(), hit.ravel()
    return {
        "expected": round(float(chances.sum(1).mean()), 4),
        "observed": round(float(hit.any(1).mean()), 4),
        "bins": [
            {
                "predicted": round(float(predicted[part].mean()), 4),
                "observed": round(float(observed[part].mean()), 4),
                "n": len(part),
            }
            for part in parts
        ],
    }
