"""Questions of a store: its best sellers, its popularity, and what it does not sell."""

from pathlib import Path

import numpy as np
import pytest

from ensemble.candidate_sampler.arrays import NO_STORES, has_stores, load_arrays, save_arrays
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import POPULAR, USUAL
from tests.building.world import LIMITS, arrays_of, features_of, in_stores_of, proposed, sampler_of, shop_of

# Store 1 sells 1 and 2, store 2 sells 3 and 4, and the whole shop sells 1 and 2 best. User 1 bought 5 in 3.
RECEIPTS = [(0, day, [1, 2]) for day in range(6)] + [(0, 7, [3, 4]), (0, 8, [3, 4]), (1, 9, [5, 6])]
SHOP = in_stores_of(
    shop_of(RECEIPTS, items=6, categories={"kind": ["a", "b", "a", "b", "a", "b"]}), [1] * 6 + [2, 2, 3]
)
OPEN = arrays_of(SHOP, stores={"smoothing": 2.0}, prior={"popularity_28": 1.0})
CLOSED = arrays_of(
    SHOP,
    stores={"smoothing": 2.0, "assortment": "only", "least_baskets": 2},
    prior={"popularity_28": 1.0},
)
HERE = Query(store_row=2)


def test_a_stores_best_sellers_are_proposed_in_place_of_the_shops() -> None:
    sampler = sampler_of(OPEN, popular=2, fill=1)
    assert proposed(sampler.sample([Query()])) == {1: POPULAR, 2: POPULAR}
    assert proposed(sampler.sample([HERE])) == {3: POPULAR, 4: POPULAR}


def test_a_store_with_too_few_items_proposes_the_shops_best_sellers() -> None:
    """Store 2 sells two items. The shop's best three are 1, 2 and the first of those sold twice."""
    assert set(proposed(sampler_of(OPEN, popular=3, fill=1).sample([HERE]))) == {1, 2, 3}


def test_recent_popularity_is_that_of_the_asking_store() -> None:
    """All baskets are of the last 28 days. Item 3 is in 2 of 9 and in both of store 2: p = (2 + 2 · 2/9) / 4.

    With the expectation p it is (2 + 300 p) / 302. Of item 1, in 6 of 9, a half is left, times 300 / 302.
    """
    sampler = sampler_of(OPEN, fill=6)
    here, whole = sampler.sample([HERE]), sampler.sample([Query()])
    expected = (2 + 300 * (2 + 4 / 9) / 4) / 302
    assert features_of(here, 3)["popularity_28"] == pytest.approx(np.log1p(1e4 * expected), rel=1e-5)
    left = 6 / 9 / 2 * 300 / 302
    assert features_of(here, 1)["popularity_28"] == pytest.approx(np.log1p(1e4 * left), rel=1e-5)
    assert features_of(whole, 3)["popularity_28"] == pytest.approx(np.log1p(1e4 * 2 / 9), rel=1e-5)
    assert features_of(here, 3)["popularity"] == features_of(whole, 3)["popularity"]


def test_candidates_are_cut_by_the_popularity_in_the_store() -> None:
    sampler = sampler_of(OPEN, fill=6, capacity=2)
    assert set(proposed(sampler.sample([Query()]))) == {1, 2}
    assert set(proposed(sampler.sample([HERE]))) == {3, 4}


def test_a_store_leaves_no_trace_in_the_next_question() -> None:
    sampler, alone = sampler_of(CLOSED, fill=6), sampler_of(CLOSED, fill=6).sample([Query(basket=[1])])
    batch = sampler.sample([HERE, Query(basket=[1]), Query(store_row=1), Query(basket=[1])])
    for place in (1, 3):
        np.testing.assert_array_equal(batch.rows[place], alone.rows[0])
        np.testing.assert_array_equal(batch.features[place], alone.features[0])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(store_row=2), {3, 4}),
        (Query(store_row=2, wanted=[1]), {3}),
        (Query(store_row=2, wanted=[1, 2], exclude=[4]), {3}),
        (Query(store_row=2, only=[1, 4]), {4}),
        (Query(store_row=2, user_row=1, basket=[1]), {3, 4}),
        (Query(store_row=3), {1, 2, 3, 4, 5, 6}),  # one basket does not tell what store 3 sells
    ],
)
def test_a_closed_store_gets_nothing_that_it_does_not_sell(query: Query, expected: set[int]) -> None:
    assert set(proposed(sampler_of(CLOSED, fill=6).sample([query]))) == expected


def test_usual_purchases_stay_where_the_store_is_not_closed() -> None:
    assert proposed(sampler_of(OPEN, popular=1).sample([Query(store_row=2, user_row=1)]))[5] & USUAL


def test_a_store_row_outside_its_table_is_refused() -> None:
    with pytest.raises(IndexError, match="store row 4 is outside 0 … 3"):
        sampler_of(OPEN).sample([Query(store_row=4)])
    with pytest.raises(IndexError, match="store row 1 is outside 0 … 0"):
        sampler_of(OPEN._replace(stores=NO_STORES)).sample([Query(store_row=1)])


def test_stores_are_looked_up_and_unknown_ones_are_told() -> None:
    vocabulary = sampler_of(OPEN).vocabulary()
    assert vocabulary.query(store_id=[b" s2 "]).store_row == 2
    unknown = vocabulary.query(store_id=[b"s9"])
    assert (unknown.store_row, list(unknown.warnings)) == (0, [b"unknown_store:s9"])


def test_an_unknown_store_gets_the_whole_shops_answer() -> None:
    sampler = sampler_of(OPEN, fill=6)
    unknown = sampler.sample([sampler.vocabulary().query(store_id=[b"s9"])])
    np.testing.assert_array_equal(unknown.features, sampler.sample([Query()]).features)


def test_stores_are_saved_and_loaded(tmp_path: Path) -> None:
    save_arrays(OPEN, tmp_path)
    loaded = CandidateSampler(load_arrays(tmp_path), LIMITS | {"fill": 6})
    np.testing.assert_array_equal(
        loaded.sample([HERE]).features, sampler_of(OPEN, fill=6).sample([HERE]).features
    )


def test_a_shop_without_stores_writes_no_files_of_them(tmp_path: Path) -> None:
    """A release from before there were stores has none of these files either."""
    save_arrays(arrays_of(shop_of(RECEIPTS, items=6)), tmp_path)
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith("store")]
    assert not has_stores(load_arrays(tmp_path))
