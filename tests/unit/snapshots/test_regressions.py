"""Weights of partners by hand, and as an inverse of each item's own part of X'X gives them."""

import numpy as np
import pytest

from export_scripts.snapshots.counts import lines_of
from export_scripts.snapshots.pairs import PairCounts, count_pairs
from export_scripts.snapshots.partners import strongest
from export_scripts.snapshots.regressions import MOST, fit_weights
from tests.building.world import random_shop, shop_of


def test_the_weight_of_an_only_partner() -> None:
    """Two items in 3 and 2 baskets, once together: the ridge of 2 on 1 is 1 / (3 + l2)."""
    shop = shop_of([(0, 0, [1, 2]), (0, 1, [1]), (0, 2, [1]), (0, 3, [2])], items=2)
    pairs = count_pairs(lines_of(shop, 9))
    near = strongest(pairs, pairs.alone, 1, 9, 0.0)
    assert fit_weights(pairs, near.offsets, near.items, l2=1.0) == pytest.approx([1 / 4, 1 / 3])


def test_credit_is_shared_among_items_that_go_together() -> None:
    """Items 1 and 2 are always bought together, half of the time with 3: each gets half of the credit."""
    shop = shop_of([(0, n, [1, 2, 3] if n % 2 else [1, 2]) for n in range(100)], items=3)
    pairs = count_pairs(lines_of(shop, 9))
    near = strongest(pairs, pairs.alone, 1, 9, 0.0)
    weights = fit_weights(pairs, near.offsets, near.items, l2=1.0)
    of_first = dict(zip(near.items[near.offsets[1] : near.offsets[2]].tolist(), weights, strict=False))
    assert of_first[3] == pytest.approx(50 / (2 * 100 + 1))  # alone it would be 50 / 101


def test_weights_are_those_of_an_inverse() -> None:
    rng = np.random.default_rng(5)
    pairs = count_pairs(lines_of(random_shop(rng, items=90), largest=10))
    near = strongest(pairs, pairs.alone, 2, 60, 5.0)
    weights = fit_weights(pairs, near.offsets, near.items, l2=3.0)
    gram = gram_of(pairs)
    for item in range(1, 91):
        part = slice(near.offsets[item], near.offsets[item + 1])
        rows = np.array([item, *near.items[part][:MOST]])
        inverse = np.linalg.inv(gram[np.ix_(rows, rows)] + 3 * np.eye(len(rows)))
        expected = np.zeros(part.stop - part.start)
        expected[: len(rows) - 1] = -inverse[0, 1:] / np.diag(inverse)[1:]
        np.testing.assert_allclose(weights[part], expected, atol=1e-6)


def gram_of(pairs: PairCounts) -> np.ndarray:
    gram = np.diag(pairs.alone.astype(float))
    owner = np.repeat(np.arange(len(pairs.alone)), np.diff(pairs.offsets))
    gram[owner, pairs.partners] = gram[pairs.partners, owner] = pairs.together
    return gram
