"""Fits EASE on receipts, and chooses its two settings on the validation period.

The matrix X has a row a receipt and a column a best seller. X'X holds the counts that the sampler's partners
come from: baskets with both items, and with one item on the diagonal. So no receipt is read again.
"""

from typing import Final, NamedTuple

import numba
import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from export_scripts.durations import step
from export_scripts.quality.ease.ranker import EaseOnReceipts, Weights
from export_scripts.quality.metrics import Ranks, gains
from export_scripts.quality.questions import BATCH
from export_scripts.quality.rankers import NO_CANDIDATES, QueryBatch
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.pairs import PairCounts
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.snapshot import recommendable
from export_scripts.snapshots.splits import HiddenItems, Split, as_queries, hide_items

log = structlog.get_logger()

EASE_ITEMS: Final = (
    8_000  # best sellers: 8 CPU s and 0.8 GB; all 27,000 of the demo would take 5 min and 9 GB
)
CHOOSING_ITEMS: Final = 3_000  # best sellers while l2 is chosen: a twentieth of the time for each value
CHOOSING_QUERIES: Final = 1_000  # of the validation period
L2S: Final = (
    100.0,
    10.0,
    30.0,
    300.0,
    1000.0,
)  # the first is taken if nothing can be asked, or all are equal
RECENCIES: Final = (0.05, 0.0, 0.02, 0.1, 0.2)


class Choice(NamedTuple):
    """The added diagonal of X'X, and the weight of the user's own purchases."""

    l2: float
    recency: float


@step("EASE on receipts")
def fit_ease_on_receipts(
    shop: Shop, split: Split, arrays: SamplerArrays, counted: PartialCounts, settings: Settings
) -> EaseOnReceipts:
    """Fit it to the receipts before the test period; ``arrays`` are those of that moment."""
    choice = choose(shop, split, arrays, counted, settings)
    gram = gram_matrix(counted.pairs(split.test), arrays.popularity.order[:EASE_ITEMS])
    note = f"l2 {choice.l2:g}, recency {choice.recency:g}, {len(gram):,} best sellers"
    return EaseOnReceipts(arrays, ease_weights(gram, choice.l2), choice.recency, note)


def gram_matrix(pairs: PairCounts, rows: NDArray[np.int32]) -> Weights:
    """Return X'X (n, n) of the items ``rows`` (n,)."""
    columns = np.full(len(pairs.alone), -1)
    columns[rows] = np.arange(len(rows))
    gram = np.diag(pairs.alone[rows].astype(np.float32))
    _fill(gram, columns, pairs.offsets, pairs.partners, pairs.together)
    return gram


@numba.njit(cache=True)
def _fill(gram, columns, offsets, partners, together):  # type: ignore[no-untyped-def]  # numba infers the types
    for item in range(len(columns)):
        a = columns[item]
        if a < 0:
            continue
        for k in range(offsets[item], offsets[item + 1]):
            b = columns[partners[k]]
            if b >= 0:
                gram[a, b] = gram[b, a] = together[k]


def ease_weights(gram: Weights, l2: float) -> Weights:
    """Return B (n, n) of Steck 2019, eq. 8: -P / diag(P) with a diagonal of 0, P the inverse of X'X + l2.

    One thread, because the last bits depend on their number.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        inverse = _invert(gram, l2)
    finally:
        torch.set_num_threads(threads)
    inverse /= -np.diag(inverse)
    np.fill_diagonal(inverse, 0)
    return inverse


def _invert(gram: Weights, l2: float) -> Weights:
    matrix = torch.from_numpy(gram.copy())
    matrix.diagonal().add_(l2)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if failed:  # l2 is lost beside a count of some 2^24 times as much
        return _invert(gram, 10 * l2)
    del matrix
    inverse: Weights = torch.cholesky_inverse(factor).numpy()
    return inverse


def choose(
    shop: Shop, split: Split, arrays: SamplerArrays, counted: PartialCounts, settings: Settings
) -> Choice:
    """Choose l2 by NDCG@10 without users on the validation period, then the recency by that with users."""
    popularity = counts.popularity(shop, split.validation, settings.sampler.min_support)
    earlier = arrays._replace(popularity=popularity)
    rng = np.random.default_rng(settings.train.seed)
    hideable, per_basket = recommendable(earlier), settings.splits.hidden_per_basket
    hidden = hide_items(shop, split.validation, split.test, hideable, per_basket, rng)
    hidden = hidden.sample(CHOOSING_QUERIES, rng)
    if not len(hidden):
        return Choice(L2S[0], RECENCIES[0])
    gram = gram_matrix(counted.pairs(split.validation), popularity.order[:CHOOSING_ITEMS])
    trials = []
    for l2 in L2S:
        weights = ease_weights(gram, l2)
        value = _ndcg(EaseOnReceipts(earlier, weights, 0), shop, hidden, known_user=False)
        trials.append((value, l2, weights))
        log.info("choice", ranker=EaseOnReceipts.NAME, l2=l2, ndcg_at_10=round(value, 4))
    _, l2, weights = max(trials, key=lambda trial: trial[0])
    values = {}
    for recency in RECENCIES:
        values[recency] = _ndcg(EaseOnReceipts(earlier, weights, recency), shop, hidden, known_user=True)
        log.info("choice", ranker=EaseOnReceipts.NAME, recency=recency, ndcg_at_10=round(values[recency], 4))
    return Choice(l2, max(RECENCIES, key=lambda recency: values[recency]))


def _ndcg(ranker: EaseOnReceipts, shop: Shop, hidden: HiddenItems, known_user: bool) -> float:
    ranks: list[Ranks] = []
    for part in hidden.batches(BATCH):
        batch = QueryBatch(as_queries(shop, part, known_user), part.items, NO_CANDIDATES)
        ranks.append(ranker.place(batch)[ranker.NAME].ranks)
    return float(gains(np.concatenate(ranks))[:, 1].mean())
