"""The questions of a day, by hand."""

import numpy as np

from export_scripts.replay.questions import Asked, unknown_shares
from export_scripts.settings import load_settings
from tests.building.world import DAY, shop_of

SETTINGS = load_settings(overrides={"sampler.min_support": 1})
SHOP = shop_of(
    [
        (1, 0.5, [1, 2]),
        (2, 1.5, [3, 4]),
        (1, 2.2, [1, 3]),  # 1 was bought before by this customer, 3 only by another
        (0, 2.3, [1, 2]),
        (1, 2.4, [3, 5]),  # 3 was bought before on the same day
    ],
    items=6,
)


def test_repeat_means_bought_before_by_this_customer() -> None:
    day = Asked(SHOP, SETTINGS).on(2 * DAY)
    by_item = {
        (basket, item): repeat
        for basket, item, repeat in zip(
            day.hidden.baskets.tolist(), day.hidden.items.tolist(), day.repeat.tolist(), strict=True
        )
    }
    expected = {(2, 1): True, (2, 3): False, (3, 1): False, (3, 2): False, (4, 3): True, (4, 5): False}
    assert by_item.items() <= expected.items()
    assert {basket for basket, _ in by_item} == {
        2,
        3,
    }  # item 5 was never sold before, so 3 is alone in basket 4
    assert day.owners.tolist() == [1 if basket == 2 else 3 + 3 for basket, _ in by_item]


def test_the_same_day_asks_the_same() -> None:
    one, other = (Asked(SHOP, SETTINGS).on(2 * DAY).hidden for _ in range(2))
    assert np.array_equal(one.items, other.items)
    assert np.array_equal(one.baskets, other.baskets)


def test_unknown_items_are_those_without_a_sale_before_the_release() -> None:
    """Six lines on day 2; 5 is always unknown, and 3 (twice) is new since day 1."""
    assert unknown_shares(SHOP, 2 * DAY, made=2 * DAY) == (1 / 6, 6)
    assert unknown_shares(SHOP, 2 * DAY, made=1 * DAY) == (3 / 6, 6)
    assert unknown_shares(SHOP, 9 * DAY, made=1 * DAY) == (0.0, 0)
