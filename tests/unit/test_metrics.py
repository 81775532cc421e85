"""Ranking metrics, worked out by hand."""

import numpy as np
import pytest

from export_scripts.metrics import MISSED, gains, rank_in_scores, ranks_in_lists, summary


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
    """Ranks 0, 2 and missed: HR 2/3, NDCG (1 + .5) / 3, MRR (1 + 1/3) / 3."""
    ranks = np.array([0, 2, MISSED], np.float64)
    found = summary(ranks, np.arange(3), 10, np.random.default_rng(0))
    assert found["n"] == 3
    assert (found["hr_at_10"], found["ndcg_at_10"], found["mrr"]) == (0.6667, 0.5, 0.4444)


def test_an_empty_group_has_no_numbers() -> None:
    """A shop without repeats has no repeat HR, which is not a HR of 0."""
    found = summary(np.array([]), np.array([], np.int64), 10, np.random.default_rng(0))
    assert found == {"hr_at_10": None, "ndcg_at_10": None, "mrr": None, "interval": None, "n": 0}


def test_the_interval_is_that_of_the_binomial() -> None:
    """400 users with one query each, half of them hits: .5 ± 1.96 sqrt(.25 / 400)."""
    ranks = np.repeat([0.0, MISSED], 200)
    low, high = summary(ranks, np.arange(400), 4_000, np.random.default_rng(0))["interval"]["hr_at_10"]
    assert (low, high) == pytest.approx((0.451, 0.549), abs=0.006)


def test_queries_of_one_user_are_one_observation() -> None:
    """Ten users whose forty queries all agree: the interval is ten observations wide, not four hundred."""
    ranks = np.repeat([0.0, MISSED], 200)
    low, high = summary(ranks, np.repeat(np.arange(10), 40), 4_000, np.random.default_rng(0))["interval"][
        "hr_at_10"
    ]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 10), abs=0.1)


def test_one_user_alone_has_no_spread() -> None:
    """There is nobody else to draw."""
    found = summary(np.array([0.0, MISSED]), np.array([5, 5]), 20, np.random.default_rng(0))
    assert found["interval"]["hr_at_10"] == [0.5, 0.5]


def test_rank_in_a_returned_list() -> None:
    """An id that was not returned, and padding, are misses."""
    lists = np.array([["a", "b", ""], ["c", "", ""]], object)
    np.testing.assert_array_equal(ranks_in_lists(lists, np.array(["b", "x"], object)), [1, MISSED])


def test_ties_count_half() -> None:
    """One is better and two are equal: ranks 1, 2 and 3 are all possible, 2 is expected."""
    assert rank_in_scores(np.array([5, 3, 3, 3, 1], np.float32), 1) == 2
    assert rank_in_scores(np.array([5, 3, 1], np.float32), 0) == 0


def test_a_constant_scorer_gains_nothing() -> None:
    """101 equal scores: the middle."""
    assert rank_in_scores(np.zeros(101, np.float32), 7) == 50
