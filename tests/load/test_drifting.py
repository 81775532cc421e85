"""The drifts that the load plants, on a shop of two receipts."""

from itertools import islice

import numpy as np
import pytest

from loadtests.drifting import Basket, Plan, changed, plan_of
from loadtests.shops.new_items import is_replaced, replacement
from tests.building.world import shop_of

SHOP = shop_of([(1, 0.1, [1, 2]), (0, 0.2, [2, 3])], 3, {"kind": ["a", "b", "b"]})


def baskets(change: str, **plan: object) -> set[Basket]:
    """Both receipts with the change in them."""
    whole = Plan(1.0, np.random.default_rng(0), frozenset(), frozenset())._replace(**plan)
    return set(islice(changed(SHOP, change, whole, np.random.default_rng(0)), 2))


@pytest.mark.parametrize(
    ("change", "plan", "expected"),
    [
        ("none", {}, {("i0001", "i0002"), ("i0002", "i0003")}),
        ("other-ids", {}, {("0i0001", "0i0002"), ("0i0002", "0i0003")}),
        ("new-assortment", {"new": {"i0002"}}, {("i0001", "99000i0002"), ("99000i0002", "i0003")}),
        ("lost-category", {"lost": {"i0002", "i0003"}}, {("i0001",), ()}),
    ],
)
def test_each_change_is_planted(change: str, plan: dict[str, object], expected: set[tuple[str, ...]]) -> None:
    assert {basket.items for basket in baskets(change, **plan)} == expected


def test_a_doubled_basket_holds_the_one_before() -> None:
    assert {len(basket.items) for basket in baskets("doubled-baskets")} == {2, 3}


def test_the_lost_category_is_the_best_selling_one() -> None:
    plan = plan_of(SHOP, 0.5, np.random.default_rng(0))
    assert plan.lost == {"i0002", "i0003"}


def test_new_items_are_the_same_for_receipts_and_for_questions() -> None:
    """Their ids are numbers where the old ones were."""
    assert plan_of(SHOP, 1.0, np.random.default_rng(0)).new == {"i0001", "i0002", "i0003"}
    items = [str(number) for number in range(1000)]
    assert 70 < sum(is_replaced(item, 0.1) for item in items) < 130
    assert replacement("1095275") == "9901095275"
