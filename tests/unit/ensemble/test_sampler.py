"""The candidate sampler: sources and features by hand, then any query on a shop without pattern."""

import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ensemble.candidate_sampler import kernels, sampler
from ensemble.candidate_sampler.arrays import Retrieval, SamplerArrays, load_arrays, save_arrays
from ensemble.candidate_sampler.batch import Candidates, Touched
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.kernels import sample_batch
from ensemble.candidate_sampler.largest import largest
from ensemble.candidate_sampler.query import MAX_BASKET, MAX_EXCLUDE, Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import CATEGORY, POPULAR, SIMILAR, SOURCES, TOGETHER, USUAL
from tests.building.world import (
    DAY,
    arrays_of,
    features_of,
    proposed,
    random_shop,
    sampler_of,
    shop_of,
    tower_of,
)

# Items 1 and 2 are of kind a, 3, 4 and 6 of kind b; 5 has no kind, 5 and 6 were never sold.
# Counted before day 60: n_1 = n_3 = 2, n_2 = n_4 = 1; the pairs 1-2, 3-4 and 1-3 once each.
SHOP = shop_of(
    [(1, 0, [1, 2]), (2, 10, [3, 4]), (1, 30, [1, 3]), (1, 60, [4])],
    items=6,
    categories={"kind": ["a", "a", "b", "b", "", "b"]},
)
TOWER = Retrieval(
    users=np.array([[0, 0], [1, 0], [0, 0]], np.float32),
    basket=np.array([[0, 0], [0, 1], [0, 2], [0, 0], [0, 0], [0, 0], [0, 0]], np.float32),
    items=np.array([[0, 0], [3, 4], [0, 0], [0, 1], [0, 9], [0, 0], [0, 0]], np.float32),
)
ARRAYS = arrays_of(SHOP, end=3, shrinkage=1.0, retrieval=TOWER)
QUERY = Query(user_row=1, basket=[2], now=60 * DAY)

RANDOM = random_shop(np.random.default_rng(3))
RANDOM_ARRAYS = arrays_of(
    RANDOM,
    retrieval=tower_of(RANDOM, np.random.default_rng(4), d=8),
    prior={"recency_60": 1, "popularity": 0.1},
)


def random_sampler(arrays: SamplerArrays = RANDOM_ARRAYS, threads: int = 1) -> CandidateSampler:
    return sampler_of(arrays, threads, capacity=120, similar=30, popular=20, per_category=5, fill=60, cold=10)


def assert_equal(one: Candidates, other: Candidates) -> None:
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_source_proposes_its_own() -> None:
    """Bought before: 1, 3. With 2: 1. Nearest to (1, 2): 4. Best seller: 1. Of kind a: 1."""
    found = proposed(sampler_of(ARRAYS).sample([QUERY]))
    assert found == {1: USUAL | TOGETHER | POPULAR | CATEGORY, 3: USUAL, 4: SIMILAR}


def test_features_of_a_usual_purchase() -> None:
    """Item 1 was bought 60 and 30 days ago, the first time with the basket's item 2."""
    assert features_of(sampler_of(ARRAYS).sample([QUERY]), 1) == with_roots(
        user_count=math.log(3),
        user_share=2 / 2,
        recency_15=math.exp(-4) + math.exp(-2),
        recency_60=math.exp(-1) + math.exp(-0.5),
        last_purchase=math.exp(-1),
        due=30 / 30,
        overlap=math.sqrt(1 / 2) * math.exp(-1),
        overlap_best=math.sqrt(1 / 2),
        cosine_sum=1 / math.sqrt(2) / 2,  # halved: seen once, shrunk by 1
        cosine_max=1 / math.sqrt(2) / 2,
        probability_sum=1 / 1 / 2,
        probability_max=1 / 1 / 2,
        popularity=math.log(1 + 10_000 * 2 / 3),
        popularity_28=math.log(1 + 10_000 * 1 / 2),
        category_in_basket=1 / 1,
        category_share=3 / 4,
        category_recency=2 * math.exp(-4) + math.exp(-2),
        in_category=2 / 3,
        retrieval_user=3,
        retrieval_basket=2 * 4,
        history_size=math.log(3),
        basket_size=math.log(2),
        variety=2 / 4,
    )


def test_features_of_what_the_user_never_bought() -> None:
    """Item 4 sold once in three baskets, to user 2; the purchase at the query's moment is unseen.

    Kind b was bought with kind a, that of the basket, in one of two baskets: .5, and shrunk by 1 to .25.
    """
    assert features_of(sampler_of(ARRAYS).sample([QUERY]), 4) == with_roots(
        popularity=math.log(1 + 10_000 / 3),
        popularity_28=math.log(1 + 10_000 / 2),
        category_share=1 / 4,
        category_recency=math.exp(-2),
        category_cosine=1 / 4,
        category_lift=1 / 4,
        in_category=1 / 3,
        retrieval_basket=18,
        history_size=math.log(3),
        basket_size=math.log(2),
        variety=2 / 4,
        new_to_user=1,
    )


def test_baskets_add_up_over_the_root_of_their_size() -> None:
    """Item 3 is with 1 (cosine 1/2, P 1/2) and with 4 (cosine 1/√2, P 1), all halved by the shrinkage."""
    assert features_of(sampler_of(ARRAYS).sample([Query(basket=[1, 4])]), 3) == with_roots(
        cosine_sum=(1 / 4 + math.sqrt(1 / 2) / 2) / math.sqrt(2),
        cosine_max=math.sqrt(1 / 2) / 2,
        probability_sum=(1 / 4 + 1 / 2) / math.sqrt(2),
        probability_max=1 / 2,
        popularity=math.log(1 + 10_000 * 2 / 3),
        popularity_28=math.log(1 + 10_000),
        category_in_basket=1 / 2,
        category_cosine=1 / 4 / math.sqrt(2),
        category_lift=1 / 4 / math.sqrt(2),
        in_category=2 / 3,
        retrieval_basket=1 / math.sqrt(2),
        basket_size=math.log(3),  # and not new_to_user: nobody knows what an unknown user never bought
    )


def with_roots(**values: float) -> object:
    """All features, those not named 0, roots taken where the sampler takes them; to be compared with."""
    roots = {name for name, root in zip(FEATURES, kernels.IS_ROOT, strict=True) if root}
    return pytest.approx(
        {n: math.sqrt(values.get(n, 0)) if n in roots else values.get(n, 0) for n in FEATURES}, rel=1e-6
    )


def test_due_is_capped_and_needs_two_purchases() -> None:
    """Bought on days 0 and 2, asked on day 30: 28 / 2 is 14, cut to 4, of which the root is 2."""
    shop = shop_of([(1, 0, [1, 2]), (1, 2, [1])], items=2)
    candidates = sampler_of(arrays_of(shop)).sample([Query(user_row=1, now=30 * DAY)])
    assert [features_of(candidates, row)["due"] for row in (1, 2)] == [2, 0]


def test_only_what_lies_strictly_before_the_query_is_seen() -> None:
    seen = sampler_of(ARRAYS)
    ages = [
        proposed(seen.sample([Query(user_row=1, now=60 * DAY + late)])).get(4, 0) & USUAL for late in (0, 1)
    ]
    assert ages == [0, USUAL]


def test_without_a_moment_everything_is_seen() -> None:
    assert proposed(sampler_of(ARRAYS).sample([Query(user_row=1)]))[4] & USUAL


def test_columns_are_named_as_the_features() -> None:
    assert [getattr(kernels, name.upper()) for name in FEATURES] == list(range(len(FEATURES)))


def test_the_kernels_bits_are_the_sources() -> None:
    """They are compiled in under these names."""
    assert {name.lower(): getattr(kernels, name) for name in map(str.upper, SOURCES)} == SOURCES


def test_basket_and_excluded_items_never_come_back() -> None:
    found = proposed(sampler_of(ARRAYS, fill=6).sample([Query(user_row=1, basket=[1], exclude=[3, 4])]))
    assert sorted(found) == [2, 5, 6]


def test_one_query_leaves_nothing_behind_for_the_next() -> None:
    busy = Query(user_row=1, basket=[1, 2], exclude=[3], wanted=[2])
    asked = sampler_of(ARRAYS)
    before = asked.sample([QUERY])
    asked.sample([busy])
    assert_equal(asked.sample([QUERY]), before)


def test_a_failed_batch_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = sampler_of(ARRAYS)
    before = asked.sample([QUERY])

    def fail(
        queries: object, arrays: object, derived: object, limits: object, t: Touched, out: object
    ) -> None:
        t.slot[:] = 0
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(sampler, "sample_batch", fail)
        with pytest.raises(MemoryError):
            asked.sample([QUERY])
    assert_equal(asked.sample([QUERY]), before)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(basket=[7]), "basket item row 7 is outside 1 … 6"),
        (Query(basket=[0]), "basket item row 0 is outside 1 … 6"),
        (Query(exclude=[-1]), "excluded item row -1 is outside 1 … 6"),
        (Query(user_row=3), "user row 3 is outside 0 … 2"),
        (Query(wanted=[3]), "category row 3 is outside 1 … 2"),
    ],
)
def test_a_row_outside_its_table_is_refused(query: Query, message: str) -> None:
    with pytest.raises(IndexError, match=message):
        sampler_of(ARRAYS).sample([QUERY, query])


def test_nearest_items_are_those_with_support_and_no_more() -> None:
    """Of ten asked for there is one: 2 and 3 sold twice, and 3 is in the basket."""
    few = arrays_of(shop_of([(0, 0, [2, 3]), (0, 1, [2, 3]), (0, 2, [1])], items=3), min_support=2)
    found = proposed(sampler_of(few, similar=10, fill=3).sample([Query(basket=[3])]))
    assert {row for row, bits in found.items() if bits & SIMILAR} == {2}


def test_a_query_without_user_and_basket_is_near_nothing() -> None:
    found = proposed(sampler_of(ARRAYS, similar=4, fill=6).sample([Query()]))
    assert not any(bits & SIMILAR for bits in found.values())


def test_only_so_many_categories_of_a_basket_are_looked_into() -> None:
    """Of 1, 2 and 3 the kinds are a, a and b, which counts as two; a is exhausted, b has 4 and 6."""
    for most, found in ((1, set()), (2, {4})):
        asked = sampler_of(ARRAYS, per_category=1, basket_categories=most).sample([Query(basket=[1, 2, 3])])
        assert {row for row, bits in proposed(asked).items() if bits & CATEGORY} == found


def test_an_excluded_item_is_not_one_of_the_basket() -> None:
    """Item 3 was in a past basket with 1: excluding it makes that basket no more like this one."""
    one, other = (sampler_of(ARRAYS).sample([q]) for q in (QUERY, replace(QUERY, exclude=[3])))
    a, b = (features_of(found, 1) for found in (one, other))
    assert (a["overlap"], a["overlap_best"]) == (b["overlap"], b["overlap_best"])


def test_what_does_not_fit_is_decided_by_the_prior() -> None:
    """100 items sold by 1 … 100 users each; the 10 best sellers stay."""
    shop = shop_of([(0, day, range(1, day + 1)) for day in range(1, 101)], items=100)
    asked = sampler_of(arrays_of(shop, prior={"popularity": 1}), capacity=10, popular=100)
    assert sorted(proposed(asked.sample([Query()]))) == list(range(1, 11))


def test_the_prior_scores_what_is_written_down() -> None:
    """Which stay is decided before features are written: by the same features, of user, basket and item."""
    rng = np.random.default_rng(0)
    receipts = [(n % 3, n, rng.choice(60, 8, replace=False) + 1) for n in range(24)]
    shop = shop_of(
        receipts, items=60, categories={"kind": [f"kind {n % 7}" if n % 7 else "" for n in range(60)]}
    )
    tower = Retrieval(*(rng.normal(size=(n, 4)).astype(np.float32) for n in (3, 61, 61)))
    prior = dict(zip(FEATURES, rng.normal(size=len(FEATURES)), strict=True))
    arrays = arrays_of(shop, prior=prior, retrieval=tower)
    queries = [Query(user_row=1, basket=[3, 5, 9]), Query(user_row=2), Query(basket=[7]), Query()]
    every, some = (
        sampler_of(arrays, capacity=places, popular=60, similar=10).sample(queries) for places in (60, 12)
    )
    for i in range(len(queries)):
        scores = np.where(every.rows[i] > 0, every.features[i] @ arrays.prior.weights, -np.inf)
        assert set(some.rows[i]) == set(every.rows[i][np.argsort(-scores)[:12]])


def test_ties_do_not_push_out_a_better_candidate() -> None:
    """Items 1 … 30 tie and come first on the list of the nearest; 31 … 35 sold more."""
    shop = shop_of([(0, day, [*range(1, 36)] if day else [*range(31, 36)]) for day in range(3)], items=35)
    found = proposed(
        sampler_of(arrays_of(shop, prior={"popularity": 1}), capacity=10, popular=35).sample([Query()])
    )
    assert len(found) == 10
    assert set(range(31, 36)) <= set(found)


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=60), st.data())
def test_the_nth_largest_is_that_of_a_sorted_list(values: list[int], data: st.DataObject) -> None:
    rank = data.draw(st.integers(1, len(values)))
    assert largest.py_func(np.array(values, np.float32), rank) == sorted(values, reverse=True)[rank - 1]


def big_shop_sampler(items: int = 1_100, **limits: int) -> CandidateSampler:
    """Item r sold more often than r + 1; the last 50 never. Even ones are of kind even."""
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
    found = proposed(big_shop_sampler().sample([Query(exclude=list(range(1, 1_001)))]))
    assert len(found) == 60
    assert min(found) == 1_001
    assert all(found.values())


def test_a_filtered_list_is_filled_although_the_best_sellers_are_excluded() -> None:
    """Of kind even (number 1) the 50 rows 1,002 … 1,100 are left."""
    found = proposed(big_shop_sampler().sample([Query(exclude=list(range(1, 1_001)), wanted=[1])]))
    assert sorted(found) == list(range(1_002, 1_101, 2))


def test_a_filter_lets_nothing_else_through() -> None:
    shop_filter = Query(user_row=1, basket=[1], wanted=[2], now=60 * DAY)  # kind b
    assert sorted(proposed(sampler_of(ARRAYS, fill=10).sample([shop_filter]))) == [3, 4, 6]


def test_a_category_that_is_wholly_in_the_basket_gives_an_empty_list() -> None:
    candidates = sampler_of(ARRAYS, fill=10).sample([Query(basket=[1, 2], wanted=[1])])
    assert proposed(candidates) == {}
    assert not candidates.features.any()


def test_short_lists_are_padded() -> None:
    candidates = sampler_of(ARRAYS, capacity=20, fill=10).sample([Query()])
    assert sorted(candidates.rows[0].tolist()) == [0] * 14 + [1, 2, 3, 4, 5, 6]
    assert not candidates.sources[candidates.rows == 0].any()


def test_a_full_table_still_answers() -> None:
    """Width bounds what is looked at, not what is right: 32 places for hundreds of partners."""
    asked = sampler_of(RANDOM_ARRAYS, capacity=20, width=32)
    found = proposed(asked.sample([Query(user_row=3, basket=list(range(1, 201)))]))
    assert len(found) == 20
    assert min(found) > 200


def test_a_batch_of_none() -> None:
    assert sampler_of(ARRAYS).sample([]).rows.shape == (0, 20)


def test_baskets_are_padded_to_their_slots() -> None:
    rows = sampler_of(ARRAYS, basket_slots=4).basket_rows([Query(basket=[2, 5]), Query()])
    assert rows.tolist() == [[2, 5, 0, 0], [0, 0, 0, 0]]


def random_queries(rng: np.random.Generator, n: int) -> list[Query]:
    return [
        Query(
            user_row=int(rng.integers(RANDOM.n_users)),
            basket=np.sort(rng.choice(np.arange(1, 301), rng.integers(0, 30), replace=False)).tolist(),
            exclude=rng.choice(np.arange(1, 301), rng.integers(0, 60), replace=False).tolist(),
            wanted=np.unique(rng.integers(1, 22, rng.integers(1, 4) * (rng.random() < 0.3))).tolist(),
            now=None if rng.random() < 0.5 else int(rng.integers(220) * DAY),
        )
        for _ in range(n)
    ]


def test_a_batch_answers_as_one_at_a_time() -> None:
    queries = random_queries(np.random.default_rng(5), 64)
    together, asked = random_sampler().sample(queries), random_sampler()
    for i, query in enumerate(queries):
        assert_equal(Candidates(*(array[i : i + 1] for array in together)), asked.sample([query]))


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_that_share_a_batch_answer_as_one(threads: int) -> None:
    """Whoever takes which part, and however uneven they are."""
    alone, shared = random_sampler(), random_sampler(threads=threads)
    for size in (0, 1, 7, 8, 15, 16, 17, 40, 64, 64, 64):
        queries = random_queries(np.random.default_rng(size), size)
        assert_equal(shared.sample(queries), alone.sample(queries))
    shared.close()


def test_large_batches_alone_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads meet within a batch of 16; one of 15 never leaves the first."""
    here, both = threading.get_ident(), threading.Barrier(2, timeout=20)
    seen: list[int] = []

    def note(*arguments: object) -> None:
        seen.append(threading.get_ident())
        if len(seen) > 1:  # not for the batch of 15
            both.wait()

    asked = random_sampler(threads=2)
    monkeypatch.setattr(sampler, "sample_batch", note)
    asked.sample(random_queries(np.random.default_rng(1), 15))
    assert seen == [here]
    asked.sample(random_queries(np.random.default_rng(1), 16))
    assert len(set(seen)) == 2
    asked.close()


@pytest.mark.parametrize("fails_here", [True, False])
def test_a_part_that_fails_fails_its_batch_alone(monkeypatch: pytest.MonkeyPatch, fails_here: bool) -> None:
    """In whichever thread: the error comes when the other is done, and the next batch is answered rightly."""
    here, both = threading.get_ident(), threading.Barrier(2, timeout=20)
    asked, queries = random_sampler(threads=2), random_queries(np.random.default_rng(2), 16)
    right = random_sampler().sample(queries)

    def fail(*arguments: Any) -> None:
        both.wait()
        if (threading.get_ident() == here) == fails_here:
            arguments[4].slot[:] = 0
            raise MemoryError
        sample_batch(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(sampler, "sample_batch", fail)
        with pytest.raises(MemoryError):
            asked.sample(queries)
    assert_equal(asked.sample(queries), right)
    asked.close()


def test_what_a_basket_holds_counts_and_not_its_order() -> None:
    """Ids are sorted before they are looked up; unsorted rows may differ by rounding alone."""
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
    """No duplicates, nothing barred, a source for all, finite features, filled, and the same answer again."""
    candidates = SHARED.sample([query])
    found = candidates.rows[0][candidates.rows[0] > 0]
    barred = {*query.basket, *query.exclude}
    categories = RANDOM_ARRAYS.categories.of_item
    may = [r for r in range(1, RANDOM.n_items) if not query.wanted or set(categories[r]) & set(query.wanted)]
    assert len(set(found.tolist())) == len(found)
    assert not set(found.tolist()) & barred
    assert set(found.tolist()) <= set(may)
    assert len(found) >= min(len(set(may) - barred), 60)
    assert ((candidates.sources[0] > 0) == (candidates.rows[0] > 0)).all()
    assert np.isfinite(candidates.features).all()
    assert_equal(SHARED.sample([query]), candidates)


SHARED = random_sampler()


def test_mapped_arrays_and_those_in_memory_are_one_kernel(tmp_path: Path) -> None:
    save_arrays(RANDOM_ARRAYS, tmp_path)
    mapped = random_sampler(load_arrays(tmp_path))
    queries = random_queries(np.random.default_rng(6), 8)
    assert_equal(mapped.sample(queries), random_sampler().sample(queries))
    assert len(sample_batch.signatures) == 1, "a second dtype or layout doubles the time to load a release"


@pytest.mark.parametrize("lacking", ["users", "categories", "support", "sales"])
def test_a_shop_may_lack(lacking: str, tmp_path: Path) -> None:
    """Users, categories, items with support, items ever sold: the list is filled with what there is."""
    receipts = [(0 if lacking == "users" else 1, day, [1, 2, 3]) for day in range(3)]
    kinds = {} if lacking == "categories" else {"kind": ["a", "b", "", "a", "a"]}
    support = {"support": 4, "sales": 1}.get(lacking, 2)
    shop = shop_of(receipts, items=5, categories=kinds)
    save_arrays(arrays_of(shop, end=0 if lacking == "sales" else None, min_support=support), tmp_path)
    asked = sampler_of(load_arrays(tmp_path), similar=50, fill=5)
    assert sorted(proposed(asked.sample([Query(basket=[2])]))) == [1, 3, 4, 5]
    assert len(sample_batch.signatures) == 1
