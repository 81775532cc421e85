"""The scorer's training data: which users and baskets it asks about, and the sampler's state at that time."""

import numpy as np
import pytest

from export_scripts.scorer.training_set import collect, make_periods
from export_scripts.settings import load_settings
from export_scripts.snapshots.leaks import check_leaks
from export_scripts.snapshots.sample import mark_sampled
from export_scripts.snapshots.snapshot import recommendable, snapshot
from export_scripts.snapshots.splits import Split, split_by_time
from operations.records.contract import read_contract
from tests.building.world import DAY, random_shop, shop_of

SETTINGS = load_settings(overrides={"sampler.min_support": 3, "train.cold_share": 0, "retrieval.epochs": 1})
SHOP = random_shop(np.random.default_rng(1))
SPLIT = Split(120, 180, 220, SHOP.n_baskets)
PERIODS = make_periods(SHOP, SPLIT, snapshot(SHOP, SPLIT.training, SETTINGS), SETTINGS)
PARTS = [*PERIODS.training, PERIODS.validation]


def test_parts_follow_one_another_to_the_test_period() -> None:
    """Each asks about baskets from its start to the start of the next."""
    starts = [part.start for part in PARTS]
    assert starts[0] == SPLIT.training
    assert starts[-1] == SPLIT.validation
    assert starts == sorted(set(starts))
    assert len(starts) == SETTINGS.train.recounts + 1
    for part, end in zip(PARTS, [*starts[1:], SPLIT.test], strict=True):
        assert len(part.hidden)
        assert (part.start <= part.hidden.baskets).all()
        assert (part.hidden.baskets < end).all()


def test_each_part_knows_all_before_it_and_nothing_after() -> None:
    for part in PARTS:
        check_leaks(SHOP, part.arrays, part.start, SETTINGS)


def test_what_began_to_sell_meanwhile_is_asked_for() -> None:
    """Otherwise the scorer learns that items new to the shop never sell, and a release has such items."""
    at_first = recommendable(PARTS[0].arrays)
    assert at_first[PARTS[0].hidden.items].all()
    for part in PARTS[1:]:
        assert not at_first[part.hidden.items].all()
        assert recommendable(part.arrays)[part.hidden.items].all()


def test_the_candidates_are_those_of_each_part() -> None:
    """All parts at once have the candidates that each has alone, in their order."""
    contract = read_contract()
    together = collect(SHOP, PERIODS.training, SETTINGS, contract, "", np.random.default_rng(0))
    each = [collect(SHOP, [part], SETTINGS, contract, "", np.random.default_rng(0)) for part in PARTS[:2]]
    assert (
        together.n_queries
        == sum(part.n_queries for part in each)
        == sum(len(p.hidden) for p in PERIODS.training)
    )
    rows = np.concatenate(
        [np.pad(part.rows, [(0, 0), (0, 200)])[:, : together.rows.shape[1]] for part in each]
    )
    assert np.array_equal(together.rows, rows)


def test_no_more_are_asked_than_the_settings_say() -> None:
    few = load_settings(overrides={"train.training_queries": 40, "train.validation_queries": 10})
    splits = make_periods(SHOP, SPLIT, PARTS[0].arrays, few)
    assert sum(len(part.hidden) for part in splits.training) in range(38, 43)  # rounded for each part
    assert len(splits.validation.hidden) == 10


def test_a_sample_of_users_trains_and_all_users_validate() -> None:
    """Half of the users, and the baskets without a user in the same share."""
    half = load_settings(overrides={"train.users": SHOP.n_users // 2, "train.cold_share": 0})
    marks = mark_sampled(SHOP, half.train.users)
    splits = make_periods(SHOP, SPLIT, PARTS[0].arrays, half)
    assert all(len(part.hidden) and marks[part.hidden.baskets].all() for part in splits.training)
    assert not marks[splits.validation.hidden.baskets].all()


def test_parts_without_receipts_are_left_out() -> None:
    """One shop was closed for most of the period, and one has no training period."""
    shop = shop_of([(1, day, [1, 2]) for day in [*range(200), *range(240, 365)]], items=2)
    split = split_by_time(shop, SETTINGS.splits)
    starts = split.parts_of_training(shop, 28, 56)
    assert starts == sorted(set(starts))
    assert (starts[0], starts[-1]) == (split.training, split.validation)
    assert Split(7, 7, 8, 9).parts_of_training(shop, 2, 56) == [7, 7]


@pytest.mark.parametrize("most", [1, 2, 4])
def test_parts_are_equally_long(most: int) -> None:
    shop = shop_of([(1, day, [1, 2]) for day in range(365)], items=2)
    starts = Split(253, 309, 337, 365).parts_of_training(shop, most, 56)
    assert starts == [253 + 56 * k // most for k in range(most + 1)]
    assert shop.times[254] - shop.times[253] == DAY


def test_a_longer_period_has_more_parts_of_the_same_length() -> None:
    """Two parts in 28 days make four in 56 days: counts that are renewed less often would miss new items."""
    shop = shop_of([(1, day, [1, 2]) for day in range(365)], items=2)
    assert Split(253, 309, 337, 365).parts_of_training(shop, 2, 28) == [253, 267, 281, 295, 309]
