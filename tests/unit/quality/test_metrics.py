"""Ranking metrics, worked out by hand."""

import numpy as np
import pytest

from export_scripts.quality import metrics
from export_scripts.quality.metrics import (
    MISSED,
    Bought,
    calibration,
    gains,
    place,
    ranks_in_lists,
    summary,
    variety,
)

ROWS = np.arange(10, 15, dtype=np.int32)


def test_gains_of_a_rank() -> None:
    """Rank 0 is a full hit; rank 9 is the last that counts; a missed item gains nothing."""
    ranks = np.array([0, 2, 9, 10, MISSED], np.float64)
    expected = [
        [1, 1, 1],
        [1, 1 / 2, 1 / 3],  # log2(4) = 2
        [1, 1 / np.log2(11), 1 / 10],
        [0, 0, 1 / 11],
        [0, 0, 0],
    ]
    np.testing.assert_allclose(gains(ranks), expected)


def test_summary_is_the_mean_over_queries() -> None:
    """Ranks 0, 2 and missed: HR 2/3, NDCG (1 + 0.5) / 3, MRR (1 + 1/3) / 3."""
    ranks = np.array([0, 2, MISSED], np.float64)
    means = summary(ranks, np.arange(3), 10, np.random.default_rng(0))
    assert means["n"] == 3
    assert (means["hr_at_10"], means["ndcg_at_10"], means["mrr"]) == (0.6667, 0.5, 0.4444)


def test_an_empty_group_has_no_numbers() -> None:
    """A shop without repeats has no repeat HR, which differs from an HR of 0."""
    means = summary(np.array([]), np.array([], np.int64), 10, np.random.default_rng(0))
    assert means == {"hr_at_10": None, "ndcg_at_10": None, "mrr": None, "interval": None, "n": 0}


def test_the_interval_is_that_of_the_binomial() -> None:
    """400 users with one query each, half of them hits: 0.5 ± 1.96 sqrt(0.25 / 400)."""
    ranks = np.repeat([0.0, MISSED], 200)
    low, high = summary(ranks, np.arange(400), 4_000, np.random.default_rng(0))["interval"]["hr_at_10"]
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.006)


def test_queries_of_one_user_are_one_observation() -> None:
    """Ten users have forty queries each, which all agree: the interval is that of ten observations."""
    ranks = np.repeat([0.0, MISSED], 200)
    low, high = summary(ranks, np.repeat(np.arange(10), 40), 4_000, np.random.default_rng(0))["interval"][
        "hr_at_10"
    ]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 10), abs=0.1)


def test_one_user_alone_has_no_spread() -> None:
    """There is nobody else to draw."""
    means = summary(np.array([0.0, MISSED]), np.array([5, 5]), 20, np.random.default_rng(0))
    assert means["interval"]["hr_at_10"] == [0.5, 0.5]


def test_rank_in_a_returned_list() -> None:
    """An id that was not returned is a miss, and so is padding."""
    lists = np.array([["a", "b", ""], ["c", "", ""]], object)
    np.testing.assert_array_equal(ranks_in_lists(lists, np.array(["b", "x"], object)), [1, MISSED])


def test_ties_count_half() -> None:
    """One item is better and two are equal: the ranks 1, 2 and 3 are possible, and 2 is the expectation."""
    scores = np.array([[5, 3, 3, 3, 1], [5, 3, 1, 0, 0]], np.float32)
    assert place(ROWS, scores, np.array([12, 10], np.int32)).ranks.tolist() == [2, 0]


def test_a_constant_scorer_gains_nothing() -> None:
    """101 equal scores put the item in the middle."""
    rows = np.arange(1, 102, dtype=np.int32)
    assert place(rows, np.zeros((1, 101), np.float32), np.array([8], np.int32)).ranks.tolist() == [50]


def test_the_list_is_the_best_ten_in_order() -> None:
    """The list has the ten largest of 30 scores in any order, largest first. The hidden item's place is its
    rank.
    """
    scores = np.random.default_rng(3).permutation(30).astype(np.float32)[None]
    rows = np.arange(100, 130, dtype=np.int32)
    expected = rows[np.argsort(-scores[0])]
    placed = place(rows, scores, expected[[7]])
    np.testing.assert_array_equal(placed.top, expected[None, :10])
    assert placed.ranks.tolist() == [7]


def test_padding_and_blocked_items_are_not_ranked() -> None:
    """Row 0 and scores of -inf are not in the list; a hidden item among them is a miss."""
    rows = np.array([[11, 0, 12, 13]], np.int32)
    scores = np.array([[1, 9, -np.inf, 2]], np.float32)
    placed = place(rows, scores, np.array([12], np.int32))
    assert placed.top.tolist() == [[13, 11, *[0] * 8]]
    assert placed.ranks.tolist() == [MISSED]
    assert place(rows, scores, np.array([99], np.int32)).ranks.tolist() == [MISSED]
    assert place(rows, scores, np.array([11], np.int32)).ranks.tolist() == [1]


def test_new_ranks_leave_out_what_was_bought() -> None:
    """Items 10 and 11 are better, 13 is as good. The first customer bought 11 and 13 and an item beyond the
    list, the second nothing, and the third the hidden item itself.
    """
    scores = np.tile(np.array([5, 4, 3, 3, 1], np.float32), (3, 1))
    bought = Bought(np.array([11, 13, 11, 99, 12], np.int32), np.array([0, 4, 4, 5]))
    placed = place(ROWS, scores, np.array([12, 12, 12], np.int32), bought)
    assert placed.ranks.tolist() == [2.5, 2.5, 2.5]
    assert placed.new_ranks.tolist() == [1, 2.5, MISSED]


def test_variety_of_one_list_for_all() -> None:
    """Every query gets the same two of four items: half of the catalog, two items' worth, a Gini of one half.

    They are in 1/2 and 1/8 of the baskets: 1 and 3 bits.
    """
    top = np.tile(np.array([1, 2, *[0] * 8], np.int32), (5, 1))
    measured = variety(top, np.array([1, 2, 3, 4]), np.array([0, 8, 2, 1, 1]), 16)
    assert measured == {"coverage": 0.5, "effective_items": 2.0, "gini": 0.5, "novelty": 2.0}


def test_equal_attention_is_a_gini_of_zero() -> None:
    measured = variety(np.array([[1, 2, 3, 4]], np.int32), np.array([1, 2, 3, 4]), np.ones(5, np.int64), 4)
    assert (measured["gini"], measured["effective_items"], measured["coverage"]) == (0, 4, 1)


def test_no_lists_have_no_variety() -> None:
    assert set(variety(np.zeros((0, 10), np.int32), np.array([1]), np.ones(2, np.int64), 1).values()) == {
        None
    }


def test_calibration_compares_promise_and_outcome() -> None:
    """Two lists promise 0.6 + 0.2 each. One hits at the first place, one misses, so 0.5 came true."""
    chances = np.array([[0.6, 0.2], [0.6, 0.2]], np.float32)
    bins = calibration(chances, np.array([0.0, MISSED]), bins=2)
    assert (bins["expected"], bins["observed"]) == (0.8, 0.5)
    assert bins["bins"] == [
        {"predicted": 0.2, "observed": 0.0, "n": 2},
        {"predicted": 0.6, "observed": 0.5, "n": 2},
    ]


def test_calibration_given_that_the_item_is_a_candidate() -> None:
    """The list that misses drops out: the other promises 0.8 and hits; rank 40 is a candidate as well."""
    chances = np.array([[0.6, 0.2], [0.6, 0.2], [0.3, 0.1]], np.float32)
    given = calibration(chances, np.array([0.0, MISSED, 40]), bins=2)["given_candidate"]
    assert (given["n"], given["expected"], given["observed"]) == (2, 0.6, 0.5)
    assert [part["observed"] for part in given["bins"]] == [0.0, 0.5]


def test_calibration_of_nothing() -> None:
    empty = calibration(np.zeros((0, 10), np.float32), np.zeros(0))
    assert empty["bins"] == []
    assert empty["given_candidate"] == {"expected": None, "observed": None, "bins": [], "n": 0}


def test_intervals_do_not_depend_on_how_many_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large shops draw the resamples in parts."""
    values, owners = np.arange(30.0)[:, None], np.arange(30)
    whole = metrics.interval(values, owners, 50, np.random.default_rng(0))
    monkeypatch.setattr(metrics, "DRAWN_AT_ONCE", 100)
    np.testing.assert_array_equal(metrics.interval(values, owners, 50, np.random.default_rng(0)), whole)
