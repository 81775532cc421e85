"""Figures of asking with the store, worked out by hand."""

import numpy as np
import pytest

from export_scripts.engines.local import ThisProcess
from export_scripts.quality import grids
from export_scripts.quality.groups import Groups
from export_scripts.quality.metrics import MISSED, TOP, Placement
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import QueryBatch
from export_scripts.quality.stores import measure_stores, on_sale, sold_pairs
from export_scripts.settings import load_settings
from export_scripts.snapshots.splits import HiddenItems
from tests.building.world import arrays_of, in_stores_of, sampler_of, shop_of

# The period begins with basket 2, on day 40. Store 1 sold 4 on day 0, which is too long ago.
SHOP = in_stores_of(
    shop_of(
        [(0, 0, [1, 4]), (0, 20, [1, 2]), (0, 40, [1, 2, 3]), (0, 41, [2, 3]), (0, 42, [1, 3])],
        items=5,
    ),
    [1, 1, 1, 2, 0],
)
HIDDEN = HiddenItems(np.array([2, 3, 4]), np.array([3, 2, 1], np.int32))


class KnowsTheStore:
    """Puts the hidden item first if the query names store 1, else second; lists items 3 and 4."""

    names = ("cesta",)

    def place(self, batch: QueryBatch) -> dict[str, Placement]:
        ranks = np.array([0.0 if query.store_row == 1 else 1.0 for query in batch.queries])
        top = np.zeros((len(ranks), TOP), np.int32)
        for row, query in zip(top, batch.queries, strict=True):
            row[:2] = (3, 1) if query.store_row else (3, 4)
        return {"cesta": Placement(ranks, top, np.full(len(ranks), float(MISSED)))}


def test_what_was_sold_in_the_store_in_the_period_or_28_days_before_is_on_sale() -> None:
    assert SHOP.stores
    sold = sold_pairs(SHOP, SHOP.stores, 2)
    assert sorted(divmod(pair, SHOP.n_items) for pair in sold.tolist() if pair >= SHOP.n_items) == [
        (1, 1),
        (1, 2),
        (1, 3),
        (2, 2),
        (2, 3),
    ]
    top = np.array([[3, 4, 0], [1, 2, 3], [0, 0, 0]], np.int32)
    assert on_sale(sold, np.array([1, 2, 2], np.int32), top, SHOP.n_items).tolist() == [1 / 2, 2 / 3, 0]


def test_queries_with_a_store_are_compared_with_the_same_ones_without() -> None:
    """The third query names no store. With a store the list is (3, 1): all of it is on sale in 1."""
    sampler = sampler_of(arrays_of(SHOP, 2))
    questions = Questions(SHOP, HIDDEN, sampler, [KnowsTheStore()])
    placed = questions.rank(ThisProcess(), True, "test")["cesta"]
    groups = Groups.of(SHOP, sampler.arrays, HIDDEN, 2, load_settings())
    measured = measure_stores(questions, KnowsTheStore(), placed, 2, groups, ThisProcess())["stores"]
    second = 1 / np.log2(3)
    assert measured["with_store"]["n"] == 2
    assert measured["with_store"]["ndcg_at_10"] == pytest.approx((1 + second) / 2, abs=1e-4)
    assert measured["store_adds"]["ndcg_at_10"]["difference"] == pytest.approx((1 - second) / 2, abs=1e-4)
    assert (measured["on_sale"], measured["on_sale_without_store"]) == (0.75, 0.5)
    assert measured["hidden_in_lists"] == 0  # store 1 never sold 3 before the period, store 2 nothing
    assert {name: store["n"] for name, store in measured["by_store"].items()} == {"s1": 1, "s2": 1}
    assert measured["by_store"]["s2"]["on_sale"] == 0.5


def test_a_shop_without_stores_has_no_part_about_them() -> None:
    shop = shop_of([(0, 0, [1, 2]), (0, 40, [1, 2])], items=2)
    hidden = HiddenItems(np.array([1]), np.array([2], np.int32))
    sampler = sampler_of(arrays_of(shop, 1))
    questions = Questions(shop, hidden, sampler, [KnowsTheStore()])
    placed = questions.rank(ThisProcess(), True, "test")["cesta"]
    groups = Groups.of(shop, sampler.arrays, hidden, 1, load_settings())
    assert measure_stores(questions, KnowsTheStore(), placed, 1, groups, ThisProcess()) == {}
    assert grids.stores({}) is None  # type: ignore[typeddict-item]
