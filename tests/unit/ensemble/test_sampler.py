"""The candidate sampler: sources and lists by hand, then any query on a shop without pattern."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.candidate_sampler import kernels
from ensemble.candidate_sampler.arrays import NO_CATEGORY, NO_ITEM, load_arrays, save_arrays
from ensemble.candidate_sampler.largest import largest
from ensemble.candidate_sampler.query import MAX_BASKET, MAX_EXCLUDE, Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import CATEGORY, POPULAR, SIMILAR, SOURCES, TOGETHER, USUAL
from tests.building.sampled_shops import (
    ARRAYS,
    QUERY,
    RANDOM,
    RANDOM_ARRAYS,
    assert_equal,
    plain_kernels,
    random_queries,
    random_sampler,
)
from tests.building.world import DAY, arrays_of, features_of, proposed, sampler_of, shop_of


def test_every_source_proposes_its_own() -> None:
    """Bought before: 1, 3. With 2: 1. Nearest to (1, 2): 4. Best seller: 1. In kind a: 1."""
    sources = proposed(sampler_of(ARRAYS).sample([QUERY]))
    assert sources == {1: USUAL | TOGETHER | POPULAR | CATEGORY, 3: USUAL, 4: SIMILAR}


def test_only_what_lies_strictly_before_the_query_is_seen() -> None:
    seen = sampler_of(ARRAYS)
    ages = [
        proposed(seen.sample([Query(user_row=1, now=60 * DAY + late)])).get(4, 0) & USUAL for late in (0, 1)
    ]
    assert ages == [0, USUAL]


def test_without_a_moment_everything_is_seen() -> None:
    assert proposed(sampler_of(ARRAYS).sample([Query(user_row=1)]))[4] & USUAL


def test_the_kernels_bits_are_the_sources() -> None:
    """The kernels have them compiled in under these names."""
    assert {name.lower(): getattr(kernels, name) for name in map(str.upper, SOURCES)} == SOURCES


def test_basket_and_excluded_items_never_come_back() -> None:
    sources = proposed(sampler_of(ARRAYS, fill=6).sample([Query(user_row=1, basket=[1], exclude=[3, 4])]))
    assert sorted(sources) == [2, 5, 6]


def test_what_is_not_in_stock_is_no_candidate_and_the_list_is_filled_up() -> None:
    """No item is available but 4 and 6; in store A it is 5, too. Golden requests ask past the stock."""
    sampler = sampler_of(ARRAYS, fill=6)
    live = np.array([[0, 1, 1, 1, 0, 1, 0], [0, 1, 1, 1, 0, 2, 0]], np.uint8)
    sampler.live.bytes_by_item, sampler.live._row_of_store = live, {b"A": 1}
    queries = [Query(user_row=1, basket=[2], store=store) for store in (b"", b"A", b"B")]
    queries.append(Query(user_row=1, basket=[2], is_live=False))
    expected = [[4, 6], [4, 5, 6], [4, 6], [1, 3, 4, 5, 6]]
    assert [sorted(proposed(sampler.sample([query]))) for query in queries] == expected
    together = sampler.sample(queries)
    assert [sorted({*rows} - {0}) for rows in together.rows.tolist()] == expected
    alone = sampler.sample([Query(only=[1, 4], wanted=[])])
    assert sorted(proposed(alone)) == [4]


def test_a_customer_s_habits_are_read_whether_or_not_they_are_in_stock() -> None:
    """The features of what stays are those of a shop where everything is there."""
    sampler = sampler_of(ARRAYS, fill=6)
    before = sampler.sample([Query(user_row=1, basket=[2])])
    sampler.live.bytes_by_item = np.array([[0, 0, 0, 1, 0, 0, 0]], np.uint8)
    after = sampler.sample([Query(user_row=1, basket=[2])])
    assert set(proposed(before)) - set(proposed(after)) == {3}
    np.testing.assert_array_equal(features_of(before, 1)["user_count"], features_of(after, 1)["user_count"])


def test_items_of_an_excluded_category_are_no_candidates() -> None:
    """Items 1 and 2 are of kind a. The next query finds them again."""
    sampler = sampler_of(ARRAYS, fill=6)
    without, every = (proposed(sampler.sample([Query(unwanted=kinds)])) for kinds in ([1], []))
    assert (sorted(without), sorted(every)) == ([3, 4, 5, 6], [1, 2, 3, 4, 5, 6])


def test_only_the_items_asked_for_are_candidates_and_all_of_them() -> None:
    """Item 5 has no category and was never sold, so no source proposes it: it has no reason."""
    sampler = sampler_of(ARRAYS)
    sources = proposed(sampler.sample([Query(user_row=1, basket=[2], exclude=[4], only=[1, 2, 4, 5])]))
    assert sources == {1: USUAL | TOGETHER | POPULAR | CATEGORY, 5: 0}
    kinds = {
        kind: sorted(proposed(sampler.sample([Query(only=[1, 3, 5], wanted=[kind])]))) for kind in (1, 2)
    }
    assert kinds == {1: [1], 2: [3]}
    assert proposed(sampler.sample([Query(user_row=1, only=[NO_ITEM])])) == {}
    assert len(proposed(sampler_of(ARRAYS, fill=6).sample([Query()]))) == 6


@given(st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_a_query_s_own_history_gives_what_the_release_s_gives(seed: int) -> None:
    """The same receipts sent as ages, bit for bit, beside other queries and with every user's vector."""
    rng = np.random.default_rng(seed)
    queries = [replace(query, now=None) for query in random_queries(rng, 12)]
    own = [replace(query, history=history_of(query.user_row)) for query in queries]
    mixed = [one if rng.random() < 0.5 else other for one, other in zip(queries, own, strict=True)]
    sampler = random_sampler()
    expected = sampler.sample(queries)
    assert_equal(sampler.sample(own), expected)
    assert_equal(random_sampler(threads=2).sample(mixed), expected)


def history_of(user: int) -> list[tuple[float, int]]:
    """What the release knows of a user, as a query brings it."""
    h, now, day = RANDOM_ARRAYS.histories, int(RANDOM_ARRAYS.clock.now), float(RANDOM_ARRAYS.clock.day)
    return [
        (float(np.float32((now - h.times[b]) / day)), int(item))
        for b in range(h.user_offsets[user], h.user_offsets[user + 1])
        for item in h.items[h.basket_offsets[b] : h.basket_offsets[b + 1]]
    ]


def test_a_history_of_today_is_seen_and_an_empty_one_hides_the_release_s() -> None:
    sampler = sampler_of(ARRAYS)
    assert proposed(sampler.sample([Query(history=[(0.0, 4)])]))[4] & USUAL
    assert not any(
        bits & USUAL for bits in proposed(sampler.sample([Query(user_row=1, history=[])])).values()
    )


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(basket=[7]), "basket item row 7 is outside 1 … 6"),
        (Query(basket=[0]), "basket item row 0 is outside 1 … 6"),
        (Query(exclude=[-1]), "excluded item row -1 is outside 1 … 6"),
        (Query(user_row=3), "user row 3 is outside 0 … 2"),
        (Query(wanted=[3]), "category row 3 is outside 0 … 2"),
        (Query(unwanted=[3]), "excluded category row 3 is outside 0 … 2"),
        (Query(only=[7]), "listed item row 7 is outside 0 … 6"),
        (Query(history=[(1.0, 7)]), "history item row 7 is outside 1 … 6"),
    ],
)
def test_a_row_outside_its_table_is_refused(query: Query, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        sampler_of(ARRAYS).sample([QUERY, query])


def test_nearest_items_are_those_with_support_and_no_more() -> None:
    """Ten places get one item: 2 and 3 sold twice, and 3 is in the basket."""
    few = arrays_of(shop_of([(0, 0, [2, 3]), (0, 1, [2, 3]), (0, 2, [1])], items=3), min_support=2)
    sources = proposed(sampler_of(few, similar=10, fill=3).sample([Query(basket=[3])]))
    assert {row for row, bits in sources.items() if bits & SIMILAR} == {2}


def test_a_query_without_user_and_basket_is_near_nothing() -> None:
    sources = proposed(sampler_of(ARRAYS, similar=4, fill=6).sample([Query()]))
    assert not any(bits & SIMILAR for bits in sources.values())


def test_only_so_many_categories_of_a_basket_are_looked_into() -> None:
    """Items 1, 2 and 3 have the kinds a, a and b, which counts as two. Kind a is exhausted, b has 4 and 6."""
    for most, expected in ((1, set()), (2, {4})):
        candidates = sampler_of(ARRAYS, per_category=1, basket_categories=most).sample(
            [Query(basket=[1, 2, 3])]
        )
        assert {row for row, bits in proposed(candidates).items() if bits & CATEGORY} == expected


def test_what_does_not_fit_is_decided_by_the_prior() -> None:
    """100 items sold to 1 … 100 users each; the 10 best sellers stay."""
    shop = shop_of([(0, day, range(1, day + 1)) for day in range(1, 101)], items=100)
    small_sampler = sampler_of(arrays_of(shop, prior={"popularity": 1}), capacity=10, popular=100)
    assert sorted(proposed(small_sampler.sample([Query()]))) == list(range(1, 11))


def test_ties_do_not_push_out_a_better_candidate() -> None:
    """Items 1 … 30 tie and lead the list of the nearest; 31 … 35 sold more."""
    shop = shop_of([(0, day, [*range(1, 36)] if day else [*range(31, 36)]) for day in range(3)], items=35)
    sources = proposed(
        sampler_of(arrays_of(shop, prior={"popularity": 1}), capacity=10, popular=35).sample([Query()])
    )
    assert len(sources) == 10
    assert set(range(31, 36)) <= set(sources)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.data())
def test_the_nth_largest_is_that_of_a_sorted_list(values: list[int], data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, len(values)))
    assert largest.py_func(np.array(values, np.float32), rank) == sorted(values, reverse=True)[rank - 1]


def big_shop_sampler(items: int = 1_100, **limits: int) -> CandidateSampler:
    """Item r sold more often than r + 1; the last 50 never sold. Even items are of kind even."""
    shop = shop_of(
        [(0, day, range(1, items - 50 + 1, 1) if day == 0 else range(1, 1 + day * 10)) for day in range(100)],
        items=items,
        categories={"kind": ["odd", "even"] * (items // 2)},
    )
    arrays = arrays_of(shop, min_support=2)
    arrays = arrays._replace(neighbours=arrays.neighbours._replace(offsets=np.zeros(items + 2, np.int64)))
    return sampler_of(arrays, capacity=300, similar=10, popular=10, fill=60, **limits)


def test_a_list_is_filled_although_all_best_sellers_are_excluded() -> None:
    """1,000 excludes leave 100 items, none of which sold twice."""
    sources = proposed(big_shop_sampler().sample([Query(exclude=list(range(1, 1_001)))]))
    assert len(sources) == 60
    assert min(sources) == 1_001
    assert all(sources.values())


def test_a_filtered_list_is_filled_although_the_best_sellers_are_excluded() -> None:
    """Kind even (number 1) has the 50 rows 1,002 … 1,100 left."""
    sources = proposed(big_shop_sampler().sample([Query(exclude=list(range(1, 1_001)), wanted=[1])]))
    assert sorted(sources) == list(range(1_002, 1_101, 2))


def test_a_filter_lets_nothing_else_through() -> None:
    shop_filter = Query(user_row=1, basket=[1], wanted=[2], now=60 * DAY)  # kind b
    assert sorted(proposed(sampler_of(ARRAYS, fill=10).sample([shop_filter]))) == [3, 4, 6]


def test_no_category_at_all_gives_an_empty_list() -> None:
    """A query whose categories are all unknown must not become one without a filter."""
    candidates = sampler_of(ARRAYS, fill=10).sample([Query(user_row=1, basket=[1], wanted=[NO_CATEGORY])])
    assert not candidates.rows.any()
    assert not candidates.sources.any()


def test_a_category_that_is_wholly_in_the_basket_gives_an_empty_list() -> None:
    candidates = sampler_of(ARRAYS, fill=10).sample([Query(basket=[1, 2], wanted=[1])])
    assert proposed(candidates) == {}
    assert not candidates.features.any()


def test_short_lists_are_padded() -> None:
    candidates = sampler_of(ARRAYS, capacity=20, fill=10).sample([Query()])
    assert sorted(candidates.rows[0].tolist()) == [0] * 14 + [1, 2, 3, 4, 5, 6]
    assert not candidates.sources[candidates.rows == 0].any()


def test_a_full_table_still_answers() -> None:
    """The width bounds the work, not the correctness: 32 places for hundreds of partners."""
    narrow_sampler = sampler_of(RANDOM_ARRAYS, capacity=20, width=32)
    sources = proposed(narrow_sampler.sample([Query(user_row=3, basket=list(range(1, 201)))]))
    assert len(sources) == 20
    assert min(sources) > 200


def test_baskets_are_padded_to_their_slots() -> None:
    rows = sampler_of(ARRAYS, basket_slots=4).basket_rows([Query(basket=[2, 5]), Query()])
    assert rows.tolist() == [[2, 5, 0, 0], [0, 0, 0, 0]]


def test_what_a_basket_holds_counts_and_not_its_order() -> None:
    """Ids are sorted before they are looked up. Unsorted rows may differ by rounding only."""
    basket = [7, 30, 31, 99, 120]
    one, other = (random_sampler().sample([Query(user_row=2, basket=b)]) for b in (basket, basket[::-1]))
    assert proposed(one) == proposed(other)
    for row in proposed(one):
        assert features_of(one, row) == pytest.approx(features_of(other, row), rel=1e-5, abs=1e-6)


rows = st.integers(1, RANDOM.n_items - 1)


@settings(deadline=None, max_examples=150)
@given(
    st.builds(
        Query,
        user_row=st.integers(0, RANDOM.n_users - 1),
        basket=st.lists(rows, unique=True, max_size=MAX_BASKET),
        exclude=st.lists(rows, unique=True, max_size=min(MAX_EXCLUDE, RANDOM.n_items - 1)),
        wanted=st.lists(st.integers(1, 21), unique=True, max_size=5),
        now=st.none() | st.integers(-DAY, 300 * DAY),
    )
)
def test_any_query_has_a_sound_answer(query: Query) -> None:
    """It has no duplicates, nothing barred, a source for all, finite features; it is full, and the same
    again.
    """
    candidates = SHARED.sample([query])
    items = candidates.rows[0][candidates.rows[0] > 0]
    barred = {*query.basket, *query.exclude}
    categories = RANDOM_ARRAYS.categories.of_item
    may = [r for r in range(1, RANDOM.n_items) if not query.wanted or set(categories[r]) & set(query.wanted)]
    assert len(set(items.tolist())) == len(items)
    assert not set(items.tolist()) & barred
    assert set(items.tolist()) <= set(may)
    assert len(items) >= min(len(set(may) - barred), 60)
    assert ((candidates.sources[0] > 0) == (candidates.rows[0] > 0)).all()
    assert np.isfinite(candidates.features).all()
    assert_equal(SHARED.sample([query]), candidates)


SHARED = random_sampler()


@pytest.mark.parametrize("lacking", ["users", "categories", "support", "sales"])
def test_a_shop_that_lacks_something_gets_a_full_list(lacking: str, tmp_path: Path) -> None:
    """It lacks users, categories, items with support, or sales. The list is filled from what there is."""
    receipts = [(0 if lacking == "users" else 1, day, [1, 2, 3]) for day in range(3)]
    kinds = {} if lacking == "categories" else {"kind": ["a", "b", "", "a", "a"]}
    support = {"support": 4, "sales": 1}.get(lacking, 2)
    shop = shop_of(receipts, items=5, categories=kinds)
    save_arrays(arrays_of(shop, end=0 if lacking == "sales" else None, min_support=support), tmp_path)
    loaded = sampler_of(load_arrays(tmp_path), similar=50, fill=5)
    assert sorted(proposed(loaded.sample([Query(basket=[2])]))) == [1, 3, 4, 5]
    assert plain_kernels() == 1
