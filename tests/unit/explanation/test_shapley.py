"""Shapley values: worked out by hand, and compared with the mean over all orders of the players."""

from itertools import permutations

import numpy as np
import pytest

from ensemble.explanation.shapley import coalitions, shapley_values


def test_a_left_glove_is_worth_most_where_right_ones_abound() -> None:
    """Player 0 has a left glove, 1 and 2 have right ones; a pair is worth 1. Of 6 orders, 0 ends 4 pairs."""
    worth = [float(one[0] and (one[1] or one[2])) for one in coalitions(3)]
    assert shapley_values(np.array(worth)) == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_the_values_are_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(5)
    worth = rng.normal(size=2**5)
    added = np.zeros(5)
    orders = list(permutations(range(5)))
    for order in orders:
        coalition = 0
        for player in order:
            added[player] += worth[coalition | 1 << player] - worth[coalition]
            coalition |= 1 << player
    assert shapley_values(worth) == pytest.approx(added / len(orders))


def test_the_values_add_up_to_what_everybody_reaches() -> None:
    worth = np.random.default_rng(6).normal(size=2**8)
    assert shapley_values(worth).sum() == pytest.approx(worth[-1] - worth[0])


def test_nobody_shares_nothing() -> None:
    assert shapley_values(np.array([3.0])).tolist() == []
