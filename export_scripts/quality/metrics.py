"""Ranking metrics over hidden-item queries, with intervals from a bootstrap over users.

The rank of a query is that of its hidden item. The best rank is 0; the rank ``MISSED`` means that the ranker
did not return the item.

HR@10    hit rate at 10: the share of queries with a rank below 10 NDCG@10  normalised discounted cumulative
gain at 10: the mean of 1 / log2(rank + 2) for ranks below 10, else 0;
         the ideal is 1, because a query hides one item
MRR      mean reciprocal rank: the mean of 1 / (rank + 1), 0 for MISSED
"""

from typing import Final, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from export_scripts.quality.results import Calibrated, Calibration, Summary, Variety

MISSED: Final = 2**31 - 1
TOP: Final = 10
NAMES: Final = ("hr_at_10", "ndcg_at_10", "mrr")
DRAWN_AT_ONCE = 2_000_000  # bootstrap weights in memory; all resamples of a million users would not fit

Ranks = NDArray[np.float64]
Rows = NDArray[np.int32]
Scores = NDArray[np.float32]


class Bought(NamedTuple):
    """What the customer of each query bought before it."""

    items: Rows  # flat, query after query; repeated as often as bought
    offsets: NDArray[np.int64]  # (n + 1,) into items

    @classmethod
    def nothing(cls, queries: int) -> "Bought":
        return cls(np.zeros(0, np.int32), np.zeros(queries + 1, np.int64))

    def of(self, query: int) -> Rows:
        """The items of one query."""
        return self.items[self.offsets[query] : self.offsets[query + 1]]


class Placement(NamedTuple):
    """A ranker's result for a batch of queries."""

    ranks: Ranks  # (n,) of the hidden item
    top: Rows  # (n, TOP) item rows, best first; 0 pads
    new_ranks: Ranks  # (n,) without the items that the customer bought before; MISSED if it is one of them
    chances: NDArray[np.float32] | None = None  # (n, TOP) their probabilities, if the ranker predicts any
    moved: NDArray[np.float64] | None = None  # (n, m) ranks after each of the ranker's moves of new items


def gains(ranks: Ranks) -> NDArray[np.float64]:
    """(n,) ranks → (n, 3) the contribution of each query to HR@10, NDCG@10 and MRR."""
    top = ranks < TOP
    missed = ranks >= MISSED
    return np.column_stack([top, top / np.log2(ranks + 2), np.where(missed, 0, 1 / (ranks + 1))])


def summary(ranks: Ranks, owners: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> Summary:
    """Means, 95 % intervals and number of a group of queries.

    ``owners`` (n,) numbers the user of each query. Users are resampled, because queries of one user are
    alike.
    """
    n = len(ranks)
    if n == 0:
        return {"hr_at_10": None, "ndcg_at_10": None, "mrr": None, "interval": None, "n": 0}
    values = gains(ranks)
    bounds = interval(values, owners, resamples, rng).round(4).tolist()
    hr, ndcg, mrr = values.mean(0).round(4).tolist()
    return {
        "hr_at_10": hr,
        "ndcg_at_10": ndcg,
        "mrr": mrr,
        "interval": dict(zip(NAMES, bounds, strict=True)),
        "n": n,
    }


def interval(
    values: NDArray[np.float64], owners: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(n, m) values of queries → (m, 2) bounds of the 95 % interval of their means; owners are resampled."""
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
    bounds: NDArray[np.float64] = np.quantile(drawn[:, :-1] / drawn[:, -1:], [0.025, 0.975], axis=0)
    return bounds.T


def ranks_in_lists(rows: NDArray[np.object_], hidden: NDArray[np.object_]) -> Ranks:
    """(n, K) returned ids and (n,) hidden ids → (n,) ranks, MISSED where the id is not in the list."""
    hits = rows == hidden[:, None]
    return np.where(hits.any(1), hits.argmax(1), MISSED).astype(np.float64)


def place(rows: Rows, scores: Scores, hidden: Rows, bought: Bought | None = None) -> Placement:
    """Rank the items ``rows`` ((m,), or (n, m) padded with 0) by ``scores`` (n, m), except those with -inf.

    Ties count half, so a constant scorer gains nothing. The rank of a ``hidden`` item (n,) that is not ranked
    is MISSED. New ranks leave out what was ``bought``.
    """
    bought = bought or Bought.nothing(len(scores))
    is_bought = np.zeros(rows.max(initial=0) + 1, np.bool_)
    rows = np.broadcast_to(rows, scores.shape)
    ranks, new_ranks = np.empty(len(scores)), np.empty(len(scores))
    top = np.zeros((len(scores), TOP), np.int32)
    scores = np.ascontiguousarray(scores, np.float32)
    _place(rows, scores, hidden, *bought, is_bought, ranks, new_ranks, top)
    return Placement(ranks, top, new_ranks)


@numba.njit(cache=True)
def _place(  # type: ignore[no-untyped-def]  # numba infers the types
    rows, scores, hidden, bought, offsets, is_bought, ranks, new_ranks, top
):
    best = np.empty(top.shape[1], np.float32)
    for i in range(scores.shape[0]):
        for k in range(offsets[i], offsets[i + 1]):
            if bought[k] < len(is_bought):
                is_bought[bought[k]] = True
        hidden_score = np.float32(-np.inf)
        for j in range(scores.shape[1]):
            if rows[i, j] == hidden[i]:
                hidden_score = scores[i, j]
        better, ties, filled = 0, -1, 0
        bought_better, bought_ties = 0, 0
        for j in range(scores.shape[1]):
            score = scores[i, j]
            if rows[i, j] == 0 or score == -np.inf:
                continue
            better += score > hidden_score
            ties += score == hidden_score
            if score >= hidden_score and is_bought[rows[i, j]]:
                bought_better += score > hidden_score
                bought_ties += score == hidden_score
            if filled == best.shape[0] and score <= best[filled - 1]:
                continue
            filled = min(filled + 1, best.shape[0])
            at = filled - 1
            while at > 0 and best[at - 1] < score:
                best[at], top[i, at] = best[at - 1], top[i, at - 1]
                at -= 1
            best[at], top[i, at] = score, rows[i, j]
        ranks[i] = better + ties / 2 if hidden_score > -np.inf else MISSED
        new_ranks[i] = ranks[i]
        if hidden_score > -np.inf:
            is_new = not is_bought[hidden[i]]
            new_ranks[i] = better - bought_better + (ties - bought_ties) / 2 if is_new else MISSED
        for k in range(offsets[i], offsets[i + 1]):
            if bought[k] < len(is_bought):
                is_bought[bought[k]] = False


def variety(top: Rows, pool: Rows, support: NDArray[np.int64], baskets: int) -> Variety:
    """Measure how varied the lists ``top`` (n, TOP) are, and how far from obvious.

    ``pool`` holds the items that can be recommended; ``support`` (items,) counts the baskets with each item.

    coverage         the share of the pool that is in any list
    effective_items  exp of the entropy of the recommended items: so many items, shown equally often, would be
                     as varied
    gini             0 if the whole pool is shown equally often, 1 if a single item is shown
    novelty          the mean of -log2(share of baskets with the item), in bits (Vargas and Castells 2011)
    """
    shown = np.bincount(top.ravel(), minlength=len(support))
    shown[0] = 0
    if not shown.any():
        return {"coverage": None, "effective_items": None, "gini": None, "novelty": None}
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


def calibration(chances: NDArray[np.float32], ranks: Ranks, bins: int = 10) -> Calibration:
    """Compare the predicted probabilities (n, TOP) of the lists' places with the observed hits.

    A probability is a share among the candidates. It is conditional on the hidden item being one of them, so
    the queries where it is one are compared separately, too.
    """
    is_candidate = ranks < MISSED
    given = _calibration(chances[is_candidate], ranks[is_candidate], bins)
    over_all = _calibration(chances, ranks, bins)
    return {**over_all, "given_candidate": {**given, "n": int(is_candidate.sum())}}


def _calibration(chances: NDArray[np.float32], ranks: Ranks, bins: int) -> Calibrated:
    """``expected`` is the HR@10 that the probabilities predict.

    The places are sorted by probability and divided into ``bins`` groups of equal size.
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
