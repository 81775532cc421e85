"""Counts worked out by hand; and no count sees the baskets that it will be asked about."""

import math

import numpy as np
import pytest

from export_scripts.receipts.shop import Shop
from export_scripts.snapshots import counts
from tests.building.world import DAY, random_shop, shop_of

# n_1 = 3, n_2 = 2, n_3 = 2, n_4 = 1; 1-2 twice, 1-3 once, 2-3 once, 3-4 once.
SHOP = shop_of(
    [(1, 0, [1, 2]), (2, 10, [1, 2, 3]), (0, 20, [1]), (1, 40, [3, 4])],
    items=5,
    categories={"broad": ["x", "x", "y", "y", ""], "fine": ["a", "b", "y", "", ""]},
)


def partners(shop: Shop, item: int, **settings: float) -> dict[int, tuple[float, float]]:
    near = counts.cooccurrence(
        shop,
        shop.n_baskets,
        **({"min_support": 1, "partners": 9, "shrinkage": 0, "largest_basket": 9} | settings),
    )
    places = slice(near.offsets[item], near.offsets[item + 1])
    return {
        row: (cosine, probability)
        for row, cosine, probability in zip(
            near.items[places].tolist(),
            near.cosine[places].tolist(),
            near.probability[places].tolist(),
            strict=True,
        )
    }


def test_support_counts_baskets() -> None:
    assert counts.support(SHOP, 4).tolist() == [0, 3, 2, 2, 1, 0]
    assert counts.support(SHOP, 3, start=1).tolist() == [0, 2, 1, 1, 0, 0]


def test_cosine_and_probability_of_two_items() -> None:
    """cosine(1, 2) = 2 / √(3 · 2), P(2 | 1) = 2 / 3; strongest first."""
    near = partners(SHOP, 1)
    assert list(near) == [2, 3]
    assert near[2] == pytest.approx((2 / math.sqrt(6), 2 / 3))
    assert near[3] == pytest.approx((1 / math.sqrt(6), 1 / 3))


def test_shrinkage_takes_most_from_what_was_seen_least() -> None:
    """A pair seen twice keeps 2 / 4, one seen once 1 / 3."""
    near = partners(SHOP, 1, shrinkage=2)
    assert near[2] == pytest.approx((2 / math.sqrt(6) / 2, 2 / 3 / 2))
    assert near[3] == pytest.approx((1 / math.sqrt(6) / 3, 1 / 3 / 3))


def test_only_the_strongest_partners_are_kept() -> None:
    assert list(partners(SHOP, 1, partners=1)) == [2]


def test_items_below_the_bar_have_no_partners() -> None:
    assert partners(SHOP, 4, min_support=2) == {}
    assert list(partners(SHOP, 3, min_support=2)) == [2, 1]


def test_a_basket_of_too_many_items_makes_no_partners() -> None:
    """Without the basket of 1, 2 and 3 the pairs 1-2 and 3-4 occur once; its sales still count."""
    assert list(partners(SHOP, 1, largest_basket=2)) == [2]
    assert partners(SHOP, 1, largest_basket=2)[2] == pytest.approx((1 / math.sqrt(6), 1 / 3))
    assert list(partners(SHOP, 3, largest_basket=2)) == [4]


def test_a_basket_of_too_many_items_makes_no_partners_of_categories() -> None:
    """Among baskets of at most two items, two have category 1 and one of these category 2."""
    finest = np.array([0, 1, 2, 3, 0, 0], np.int32)
    near = counts.category_pairs(SHOP, 4, finest, 4, 9, 0, largest_basket=2)
    assert near.items[near.offsets[1] : near.offsets[2]].tolist() == [2]
    assert near.cosine[near.offsets[1]] == pytest.approx(1 / math.sqrt(2))
    assert near.offsets[3] == near.offsets[4]


def test_popularity_counts_baskets_in_all_and_of_28_days() -> None:
    """Item 1 sold in 3 of 4 baskets. The last 28 of 40 days hold two baskets, and it is in one."""
    popularity = counts.popularity(SHOP, 4, min_support=2)
    assert popularity.order.tolist() == [1, 2, 3]
    assert popularity.score[1] == pytest.approx(math.log(1 + 7_500))
    assert popularity.recent[[1, 2, 3]] == pytest.approx([math.log(5_001), 0, math.log(5_001)])


@pytest.mark.parametrize("end", [1, 120, 249])
def test_counts_do_not_see_what_comes_after(end: int) -> None:
    """Any future gives the same counts: the shop as it is, and one that ended at that basket."""
    whole = random_shop(np.random.default_rng(0))
    ended = Shop(
        **vars(whole)
        | {
            "offsets": whole.offsets[: end + 1],
            "items": whole.items[: whole.offsets[end]],
            "users": whole.users[:end],
            "times": whole.times[:end],
        }
    )
    for count in (
        lambda shop: counts.cooccurrence(shop, end, 2, 50, 1.0, 1000),
        lambda shop: counts.popularity(shop, end, 2),
        lambda shop: counts.histories(shop, end, 400),
        lambda shop: counts.categories(shop, end)[0],
    ):
        for a, b in zip(count(whole), count(ended), strict=True):
            np.testing.assert_array_equal(a, b)


def test_histories_are_per_user_and_oldest_first() -> None:
    h = counts.histories(SHOP, 4, 400)
    assert h.user_offsets.tolist() == [0, 0, 2, 3]  # nobody is the unknown user
    assert (h.times // DAY).tolist() == [0, 40, 10]
    assert h.items.tolist() == [1, 2, 3, 4, 1, 2, 3]
    assert h.basket_offsets.tolist() == [0, 2, 4, 7]


def test_a_long_history_keeps_its_latest_baskets() -> None:
    h = counts.histories(SHOP, 4, most_baskets=1)
    assert h.user_offsets.tolist() == [0, 0, 1, 2]
    assert h.items.tolist() == [3, 4, 1, 2, 3]


def test_categories_are_numbered_over_all_columns() -> None:
    """They are a, b, x, y. The name y stands for a broad and for a fine category, which count as one."""
    categories, names = counts.categories(SHOP, 4)
    assert names.unpack() == [b"", b"a", b"b", b"x", b"y"]
    assert categories.of_item.tolist() == [[0, 0], [3, 1], [3, 2], [4, 4], [4, 0], [0, 0]]


def test_a_categorys_items_come_best_seller_first_and_once() -> None:
    categories, _ = counts.categories(SHOP, 4)
    members = np.split(categories.members, categories.members_offsets[1:-1])
    assert [m.tolist() for m in members] == [[], [1], [2], [1, 2], [3, 4]]


def test_items_without_sales_come_last() -> None:
    categories, _ = counts.categories(
        shop_of([(0, 0, [2, 3])], items=3, categories={"kind": ["a", "a", "a"]}), 1
    )
    assert categories.members.tolist() == [2, 3, 1]


def test_a_shop_without_users_or_categories() -> None:
    shop = shop_of([(0, 0, [1, 2])], items=2)
    assert counts.histories(shop, 1, 400).user_offsets.tolist() == [0, 0]
    categories, names = counts.categories(shop, 1)
    assert (categories.of_item.shape, categories.members_offsets.tolist(), names.unpack()) == (
        (3, 0),
        [0, 0],
        [b""],
    )
