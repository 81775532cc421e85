"""Pairs by hand; parts that add up; the strongest partners as a plain sort finds them."""

import math
from itertools import pairwise

import numpy as np
import pytest

from export_scripts.snapshots.counts import lines_of
from export_scripts.snapshots.pairs import (
    Lines,
    PairCounts,
    add_pairs,
    count_pairs,
    expected_incidences,
    incidences,
    move_rows,
)
from export_scripts.snapshots.partners import strongest
from tests.building.world import random_shop, shop_of

SHOP = random_shop(np.random.default_rng(5), items=40)
LINES = lines_of(SHOP, largest=10)


def as_dict(pairs: PairCounts) -> dict[tuple[int, int], int]:
    owner = np.repeat(np.arange(len(pairs.alone)), np.diff(pairs.offsets))
    keys = zip(owner.tolist(), pairs.partners.tolist(), strict=True)
    return dict(zip(keys, pairs.together.tolist(), strict=True))


def between(start: int, end: int) -> Lines:
    return LINES._replace(offsets=LINES.offsets[start : end + 1])


def test_a_pair_counts_the_baskets_with_both() -> None:
    shop = shop_of([(1, 0, [1, 2]), (2, 1, [1, 2, 3]), (0, 2, [2])], items=4)
    pairs = count_pairs(lines_of(shop, largest=9))
    assert as_dict(pairs) == {(1, 2): 2, (1, 3): 1, (2, 3): 1}
    assert pairs.alone.tolist() == [0, 2, 3, 1, 0]


def test_a_large_basket_counts_nothing() -> None:
    shop = shop_of([(1, 0, [1, 2]), (2, 1, [1, 2, 3])], items=3)
    pairs = count_pairs(lines_of(shop, largest=2))
    assert as_dict(pairs) == {(1, 2): 1}
    assert pairs.alone.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("bounds", [[0, 250], [0, 1, 130, 250], [0, 0, 100, 250]])
def test_parts_add_up_to_the_last_bit(bounds: list[int]) -> None:
    parts = [count_pairs(between(*part)) for part in pairwise(bounds)]
    for a, b in zip(add_pairs(parts), count_pairs(LINES), strict=True):
        np.testing.assert_array_equal(a, b, strict=True)


def test_pairs_in_more_than_16_million_baskets_are_exact() -> None:
    """float32 has no number between 2^24 and 2^24 + 2."""
    pair = PairCounts(
        np.array([0, 0, 1, 1]), np.array([2], np.int32), np.array([2**24], np.int32), np.zeros(3, int)
    )
    many = add_pairs([pair, pair._replace(together=np.array([1], np.int32))])
    assert many.together.tolist() == [2**24 + 1]
    near = strongest(many, np.array([0, 2**24 + 1, 2**26]), 1, 9, 0.0)
    assert near.probability.tolist() == [1.0, np.float32((2**24 + 1) / 2**26)]


def test_incidences_tell_one_basket_more_or_less() -> None:
    np.testing.assert_array_equal(incidences(count_pairs(LINES)), expected_incidences(LINES))
    fewer = incidences(count_pairs(LINES.before(249)))
    assert (fewer != expected_incidences(LINES)).sum() == len(SHOP.basket(249))


def test_rows_move_when_new_items_come() -> None:
    """Items 1, 2 and 3 have the rows 1, 3 and 4 in a catalog of five."""
    shop = shop_of([(1, 0, [1, 2]), (2, 1, [1, 2, 3])], items=3)
    pairs = move_rows(count_pairs(lines_of(shop, largest=9)), np.array([0, 1, 3, 4]), 6)
    assert as_dict(pairs) == {(1, 3): 2, (1, 4): 1, (3, 4): 1}
    assert pairs.alone.tolist() == [0, 2, 0, 2, 1, 0]


@pytest.mark.parametrize("partners", [1, 3, 200])
@pytest.mark.parametrize("min_support", [1, 25])
def test_the_strongest_partners_are_those_of_a_sort(partners: int, min_support: int) -> None:
    """Many pairs of this shop are equally strong: those of the smallest rows stay, and come first."""
    pairs = count_pairs(LINES)
    sales, both = pairs.alone, np.zeros((41, 41), int)
    for (i, j), n in as_dict(pairs).items():
        both[i, j] = both[j, i] = n
    near = strongest(pairs, sales, min_support, partners, 5.0)
    for i in range(41):
        known = [j for j in range(41) if both[i, j] and min(sales[i], sales[j]) >= min_support]
        strength = {j: both[i, j] ** 2 / (both[i, j] + 5.0) / math.sqrt(sales[i] * sales[j]) for j in known}
        expected = sorted(known, key=lambda j: (-strength[j], j))[:partners]
        places = slice(near.offsets[i], near.offsets[i + 1])
        assert near.items[places].tolist() == expected
        assert near.cosine[places] == pytest.approx([strength[j] for j in expected])
