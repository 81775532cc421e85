"""Sales of each store: shares, lists and closed assortments, worked out by hand."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from ensemble.candidate_sampler.arrays import NO_STORES, Stores
from ensemble.candidate_sampler.query import Query
from export_scripts.scorer.training_set import _hide_stores
from export_scripts.settings import load_settings
from export_scripts.snapshots import stores
from export_scripts.snapshots.leaks import check_leaks
from export_scripts.snapshots.splits import HiddenItems, as_queries, cut_off
from operations.errors import CestaError
from tests.building.world import STORES, arrays_of, in_stores_of, shop_of

SETTINGS = load_settings(overrides={"sampler.min_support": 2, "sampler.shrinkage": 5.0})

# Store 1 sells items 1 and 2, store 2 items 2 and 3; the last basket's store is unknown.
RECEIPTS = [(0, 0, [1, 2]), (0, 1, [2, 3]), (0, 2, [1, 2]), (0, 3, [2, 4])]
SHOP = in_stores_of(shop_of(RECEIPTS, items=5), [1, 2, 1, 0])


def count(end: int = 4, regions: tuple[int, ...] = (), **settings: object) -> Stores:
    shop = in_stores_of(SHOP, [1, 2, 1, 0], regions)
    return stores.count(
        shop, end, STORES.model_copy(update={"smoothing": 2.0, "least_baskets": 1} | settings)
    )


def shares(counted: Stores, store: int) -> dict[int, float]:
    """Item row → share of the last 28 days' baskets in the store's list, best seller of all time first."""
    part = slice(counted.offsets[store], counted.offsets[store + 1])
    values = (np.expm1(counted.recent[part].astype(float)) / 10_000).tolist()
    return dict(zip(counted.items[part].tolist(), values, strict=True))


def close(share: float) -> Any:
    return pytest.approx(share, rel=1e-4)


def test_a_share_is_backed_off_to_the_whole_shop() -> None:
    """All baskets are of the last 28 days.

    Item 1 is in half of all baskets and in both of store 1: of all time (2 + 2 · ½) / (2 + 2) = ¾. That is
    what is expected of the last days, too, and (2 + 300 · ¾) / (2 + 300) comes out. Item 2 is in all baskets.
    """
    counted = count()
    assert shares(counted, 1) == {2: close(1), 1: close((2 + 300 * 0.75) / 302)}
    assert shares(counted, 2) == {2: close(1), 3: close((1 + 300 * 0.5) / 301)}
    assert counted.left[1:].tolist() == [close(0.5 * 300 / 302), close(2 / 3 * 300 / 301)]


def test_a_share_is_backed_off_to_the_region_first() -> None:
    """Store 2's region has one basket, with item 3: q = (1 + 2 · ¼) / 3 = ½; p = (1 + 2 · ½) / 3 = ⅔."""
    counted = count(regions=(1, 2))
    assert counted.shares[2, 3] == close(5_000)
    assert shares(counted, 2)[3] == close((1 + 300 * 2 / 3) / 301)


def test_baskets_from_the_end_on_are_not_counted() -> None:
    assert shares(count(end=1), 1) == {1: close(1), 2: close(1)}
    assert shares(count(end=1), 2) == {}


def test_what_was_not_sold_lately_leaves_the_list() -> None:
    """Within two days, the baskets of days 2 and 3 and that of day 1 remain."""
    assert set(shares(count(end=2, days=0.5), 1)) == set()
    assert set(shares(count(end=2, days=0.5), 2)) == {2, 3}


@pytest.mark.parametrize(
    ("settings", "zero", "closed"),
    [
        ({"assortment": "off"}, [False, False], [False, False, False]),
        ({"assortment": "prior"}, [True, True], [False, False, False]),
        ({"assortment": "only"}, [True, True], [False, True, True]),
        ({"assortment": "only", "least_baskets": 2}, [True, False], [False, True, False]),
    ],
)
def test_only_stores_that_sold_enough_are_closed(
    settings: Mapping[str, object], zero: list[bool], closed: list[bool]
) -> None:
    counted = count(**settings)
    assert (counted.left[1:] == 0).tolist() == zero
    assert counted.closed.tolist() == closed


def test_a_store_that_sold_too_little_takes_the_list_of_its_region() -> None:
    """Store 2 has one basket; its region has three."""
    counted = count(regions=(1, 1), assortment="only", least_baskets=2)
    assert set(shares(counted, 2)) == {1, 2, 3}
    assert counted.closed.tolist() == [False, True, True]


def test_a_shop_without_stores_has_empty_arrays() -> None:
    assert stores.count(shop_of(RECEIPTS, items=5), 4, STORES) is NO_STORES


def test_sales_of_later_baskets_are_a_leak() -> None:
    shop = in_stores_of(shop_of([*RECEIPTS, *RECEIPTS], items=5), [1, 2, 1, 0] * 2)
    clean = arrays_of(shop, 4, min_support=2, shrinkage=5.0)
    check_leaks(shop, clean, 4, SETTINGS)
    leaked = clean._replace(stores=stores.count(shop, 8, SETTINGS.stores))
    with pytest.raises(CestaError, match="stores know the sales of later baskets"):
        check_leaks(shop, leaked, 4, SETTINGS)


def test_queries_carry_the_store_of_their_basket() -> None:
    hidden = HiddenItems(np.array([1, 3]), np.array([3, 4], np.int32))
    assert [query.store_row for query in as_queries(SHOP, hidden)] == [2, 0]
    assert [query.store_row for query in as_queries(SHOP, hidden, in_store=False)] == [0, 0]


def test_a_part_of_the_training_queries_names_no_store() -> None:
    """A fifth of them, so that the scorer knows questions of the whole shop, too."""
    queries = [Query(store_row=2)] * 1_000
    hidden = [query.store_row for query in _hide_stores(queries, 0.2, np.random.default_rng(1))]
    assert set(hidden) == {0, 2}
    assert 150 < hidden.count(0) < 250


def test_stores_stay_with_their_baskets_when_the_end_is_cut_off() -> None:
    kept = cut_off(SHOP, 2)
    assert kept.stores
    assert kept.stores.rows.tolist() == [1, 2]
