"""EASE on receipts: its matrix, its weights, its order, and the choice of its settings."""

import numpy as np
import pytest
import torch

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.query import Query
from export_scripts.quality.ease import fitting
from export_scripts.quality.ease.fitting import (
    RECENCIES,
    choose,
    ease_weights,
    fit_ease_on_receipts,
    gram_matrix,
)
from export_scripts.quality.ease.ranker import EaseOnReceipts
from export_scripts.quality.rankers import NO_CANDIDATES, QueryBatch
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots.counts import lines_of
from export_scripts.snapshots.pairs import count_pairs
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.splits import Split
from tests.building.tiny_arrays import NOW, tiny_arrays
from tests.building.world import Receipt, arrays_of, shop_of

FOUR = np.array([[0, 0.1, 0.5, 0], [0.1, 0, 0.3, 0], [0.5, 0.3, 0, 0], [0, 0, 0, 0]], np.float32)


@pytest.fixture(scope="module")
def arrays() -> SamplerArrays:
    return tiny_arrays()


def order(ranker: EaseOnReceipts, query: Query) -> list[int]:
    placed = ranker.place(QueryBatch([query], np.array([1], np.int32), NO_CANDIDATES))
    return [row for row in placed[ranker.NAME].top[0].tolist() if row]


def test_the_matrix_is_that_of_the_receipts() -> None:
    """X'X of three receipts over items 3 and 1, in this order; item 2 is no best seller."""
    shop = shop_of([(0, 1, [1, 2, 3]), (0, 2, [1, 3]), (0, 3, [3])], 3)
    gram = gram_matrix(count_pairs(lines_of(shop, 1_000)), np.array([3, 1], np.int32))
    assert gram.tolist() == [[3, 2], [2, 2]]


def test_the_weights_are_the_closed_form() -> None:
    """The expectation is Steck's equation 8, by numpy's own inverse in double precision."""
    x = (np.random.default_rng(0).random((50, 6)) < 0.4).astype(np.float64)
    inverse = np.linalg.inv(x.T @ x + 3 * np.eye(6))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(ease_weights((x.T @ x).astype(np.float32), 3), expected, atol=1e-5)


def test_the_weights_do_not_depend_on_the_number_of_threads() -> None:
    """They have the same bits, and the number is as before."""
    x = np.random.default_rng(0).random((600, 500), np.float32)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = ease_weights(x.T @ x, 10)
        torch.set_num_threads(2)
        np.testing.assert_array_equal(ease_weights(x.T @ x, 10), one)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_counts_beside_which_l2_is_lost_get_a_larger_one() -> None:
    """Two items of a billion common receipts: single precision has no place for 1 beside them."""
    weights = ease_weights(np.full((2, 2), 1e9, np.float32), 1)
    assert np.isfinite(weights).all()
    assert weights[0, 1] == pytest.approx(1, abs=0.01)


def test_a_basket_gets_the_sum_of_its_weights(arrays: SamplerArrays) -> None:
    """Items 1 and 2 give 3 the weights 0.5 and 0.3. Item 4 has none, and the basket itself is left out."""
    ranker = EaseOnReceipts(arrays, FOUR, recency=0)
    assert order(ranker, Query(basket=[1])) == [3, 2, 4]
    assert order(ranker, Query(basket=[1, 2])) == [3, 4]
    assert order(ranker, Query()) == [1, 2, 3, 4]  # popularity alone


def test_a_known_user_adds_own_purchases(arrays: SamplerArrays) -> None:
    """User 1 bought item 2 twice, exp(-1) + exp(-0.5) = 0.97: with weight 1 it beats the 0.5 of item 3."""
    query = Query(user_row=1, basket=[1], now=NOW)
    assert order(EaseOnReceipts(arrays, FOUR, recency=1), query) == [2, 3, 4]
    assert order(EaseOnReceipts(arrays, FOUR, recency=0.1), query) == [3, 2, 4]
    assert order(EaseOnReceipts(arrays, FOUR, recency=1), Query(basket=[1], now=NOW)) == [3, 2, 4]


def test_beyond_the_best_sellers_purchases_and_popularity_decide(arrays: SamplerArrays) -> None:
    """Items 3 and 4 are no best sellers here. At NOW + 1 the user has bought item 4."""
    ranker = EaseOnReceipts(arrays, FOUR[:2, :2], recency=1)
    assert order(ranker, Query(basket=[1, 2])) == [3, 4]
    assert order(ranker, Query(user_row=1, basket=[1, 2], now=NOW + 1)) == [4, 3]


def habits(user_of: int = 8, days: int = 120) -> list[Receipt]:
    """Each of eight users buys the same three items each fourth day; everybody buys one of two others."""
    return [
        (
            day % user_of + 1,
            float(day),
            [*range(3 * (day % user_of) + 1, 3 * (day % user_of) + 4), 25 + day % 2],
        )
        for day in range(days)
    ]


SPLIT = Split(training=60, validation=80, test=100, end=120)


def fitted(shop: Shop, settings: Settings) -> EaseOnReceipts:
    arrays = arrays_of(shop, SPLIT.test, settings.sampler.min_support)
    return fit_ease_on_receipts(shop, SPLIT, arrays, PartialCounts(shop, settings.sampler), settings)


def test_no_receipt_of_the_test_period_is_looked_at() -> None:
    """Other receipts there change neither the choice nor the weights."""
    settings, receipts = load_settings(), habits()
    others = [
        (user, day, [1, 2, 3]) if day >= SPLIT.test else (user, day, rows) for user, day, rows in receipts
    ]
    one, other = (fitted(shop_of(lines, 26), settings) for lines in (receipts, others))
    assert one.note == other.note
    np.testing.assert_array_equal(one._weights, other._weights)


def test_validation_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values that find most there win: the l2 is asked about without users, the recency with them."""
    asked = []

    def ndcg(ranker: EaseOnReceipts, shop: Shop, hidden: object, known_user: bool) -> float:
        asked.append(known_user)
        return ranker._recency if known_user else float(ranker._weights.max())

    monkeypatch.setattr(fitting, "_ndcg", ndcg)
    settings, shop = load_settings(), shop_of(habits(), 26)
    arrays = arrays_of(shop, SPLIT.test, settings.sampler.min_support)
    choice = choose(shop, SPLIT, arrays, PartialCounts(shop, settings.sampler), settings)
    assert choice == (min(fitting.L2S), max(RECENCIES))  # the smallest l2 has the largest weights
    assert asked == [False] * len(fitting.L2S) + [True] * len(RECENCIES)


def test_without_questions_the_settings_are_the_usual_ones() -> None:
    """No item sold often enough by the validation period."""
    settings, shop = load_settings(overrides={"sampler.min_support": 1_000}), shop_of(habits(), 26)
    ranker = fitted(shop, settings)
    assert ranker.note == "l2 100, recency 0.05, 0 best sellers"
