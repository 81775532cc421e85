"""Periods by time, and the queries of the test-month protocol."""

from collections import Counter

import numpy as np
import pytest

from ensemble.candidate_sampler.query import MAX_BASKET, Query
from export_scripts.receipts.shop import Shop
from export_scripts.settings import SplitSettings
from export_scripts.snapshots.splits import Split, as_queries, hide_items, split_by_time
from tests.building.world import DAY, random_shop, shop_of

SETTINGS = SplitSettings(
    training_days=56,
    longest_training_days=112,
    training_questions=0,
    validation_days=28,
    test_days=28,
    hidden_per_basket=3,
)


def daily(days: int, hour: float = 10) -> Shop:
    """One basket a day at the same hour; basket number = day."""
    return shop_of([(1, day + hour / 24, [1, 2]) for day in range(days)], items=2)


def hidden_of(shop: Shop, known_items: set[int], seed: int = 1, most: int = 3) -> list[tuple[int, int]]:
    mask = np.isin(np.arange(shop.n_items), list(known_items))
    hidden = hide_items(shop, 0, shop.n_baskets, mask, most, np.random.default_rng(seed))
    return list(zip(hidden.baskets.tolist(), hidden.items.tolist(), strict=True))


def test_a_long_past_is_cut_by_the_settings() -> None:
    """365 days: 28 for the test, 28 before for validation, 56 before for training."""
    assert split_by_time(daily(365, hour=20), SETTINGS) == Split(253, 309, 337, 365)


def test_receipts_after_midnight_do_not_shift_the_days() -> None:
    """The till closes at one o'clock: the last day begins at the same time as without it."""
    late = shop_of([(1, day + 0.5, [1, 2]) for day in range(365)] + [(1, 365.04, [1, 2])], items=2)
    assert split_by_time(late, SETTINGS) == Split(253, 309, 337, 366)


def test_a_short_past_keeps_half_for_the_counts() -> None:
    """80 days are cut into an eighth, an eighth and a quarter."""
    assert split_by_time(daily(80, hour=20), SETTINGS) == Split(40, 60, 70, 80)


@pytest.mark.parametrize("first_hour", [0, 8, 15])
def test_a_shop_of_one_day_has_all_periods(first_hour: int) -> None:
    shop = shop_of([(1, (first_hour + k / 10) / 24, [1, 2]) for k in range(80)], items=2)
    assert split_by_time(shop, SETTINGS) == Split(40, 60, 70, 80)


def test_without_time_stamps_baskets_are_the_clock() -> None:
    """800 baskets are a year of 364 days: 28 days are 61.5 baskets, 56 are 123."""
    shop = shop_of([(1, 0, [1, 2])] * 800, items=2)
    shop = Shop(**vars(shop) | {"times": np.arange(800), "day": 799 / 364})
    assert split_by_time(shop, SETTINGS) == Split(554, 677, 738, 800)


@pytest.mark.parametrize(
    ("questions", "longest", "start"), [(56, 999, 224), (70, 999, 210), (400, 999, 168), (400, 80, 200)]
)
def test_a_small_shop_trains_on_a_longer_period(questions: int, longest: int, start: int) -> None:
    """Two items a day are one question. The limits are a setting and half of 336 days for the counts."""
    settings = SETTINGS.model_copy(update={"training_questions": questions, "longest_training_days": longest})
    shop = daily(336, hour=20)
    assert split_by_time(shop, settings) == Split(start, 280, 308, 336)


@pytest.mark.parametrize(("began", "start"), [(0, 168), (250, 168), (200, 224)])
def test_a_shop_whose_items_change_keeps_the_shorter_period(began: int, start: int) -> None:
    """One of two daily items is replaced on day ``began``: half of the later purchases are new."""
    settings = SETTINGS.model_copy(update={"training_questions": 400})
    shop = shop_of([(1, day + 20 / 24, [1, 2 if day < began else 3]) for day in range(336)], items=3)
    assert split_by_time(shop, settings).training == start


@pytest.mark.parametrize("questions", [0, 10])
def test_a_single_receipt_can_be_split(questions: int) -> None:
    """It is before all periods, which are empty."""
    settings = SETTINGS.model_copy(update={"training_questions": questions})
    assert split_by_time(daily(1), settings) == Split(1, 1, 1, 1)


def test_one_to_three_items_are_hidden_and_never_most_of_a_basket() -> None:
    shop = shop_of([(1, size, range(1, size + 1)) for size in range(1, 9)], items=8)
    hidden = hidden_of(shop, known_items=set(range(1, 9)))
    assert Counter(basket for basket, _ in hidden) == {1: 1, 2: 2, 3: 2, 4: 3, 5: 3, 6: 3, 7: 3}
    assert len(set(hidden)) == len(hidden)
    assert all(item in shop.basket(basket) for basket, item in hidden)


def test_only_known_items_are_hidden_and_count() -> None:
    """The first basket has one known item, which leaves nothing to ask. The second asks for either of two."""
    shop = shop_of([(1, 0, [1, 5, 6]), (1, 1, [1, 2, 5])], items=6)
    pairs = {pair for seed in range(20) for pair in hidden_of(shop, known_items={1, 2}, seed=seed)}
    assert pairs == {(1, 1), (1, 2)}


def test_a_period_asks_about_its_own_baskets() -> None:
    shop = random_shop(np.random.default_rng(0))
    hidden = hide_items(shop, 100, 120, np.ones(shop.n_items, bool), 3, np.random.default_rng(1))
    assert set(hidden.baskets.tolist()) <= set(range(100, 120))


def test_a_seed_hides_the_same_items_again() -> None:
    shop = random_shop(np.random.default_rng(0))
    all_items = set(range(shop.n_items))
    assert (
        hidden_of(shop, all_items, seed=5)
        == hidden_of(shop, all_items, seed=5)
        != hidden_of(shop, all_items, seed=6)
    )


def test_queries_hold_the_rest_of_the_basket_at_its_moment() -> None:
    shop = shop_of([(2, 3, [1, 2, 3])], items=3)
    hidden = hide_items(shop, 0, 1, np.array([False, False, True, True]), 1, np.random.default_rng(0))
    rest = [1, 2] if hidden.items[0] == 3 else [1, 3]
    assert as_queries(shop, hidden) == [Query(user_row=2, basket=rest, now=3 * DAY)]
    assert as_queries(shop, hidden, known_user=False) == [Query(user_row=0, basket=rest, now=3 * DAY)]


def test_a_basket_beyond_the_requests_limit_is_cut() -> None:
    """It is a wholesaler's: nobody can ask for it, and the scorer has no room for it."""
    shop = shop_of([(1, 0, range(1, 301))], items=300)
    (query,) = as_queries(shop, hide_items(shop, 0, 1, np.ones(301, bool), 1, np.random.default_rng(0)))
    assert len(query.basket) == MAX_BASKET


def test_a_sample_of_queries_keeps_their_order() -> None:
    shop = random_shop(np.random.default_rng(0))
    hidden = hide_items(shop, 0, 250, np.ones(shop.n_items, bool), 3, np.random.default_rng(1))
    sample = hidden.sample(50, np.random.default_rng(2))
    assert len(sample) == 50
    assert (np.diff(sample.baskets) >= 0).all()
    assert hidden.sample(10_000, np.random.default_rng(2)) is hidden
    assert [len(batch) for batch in sample.batches(20)] == [20, 20, 10]
