"""The reference of a release, and receipts compared with it: small shops by hand, and random ones."""

import numpy as np
import pytest

from ensemble.candidate_sampler.groups import Groups, groups_of
from export_scripts.drift.counting import Baskets, baskets_of, count
from export_scripts.drift.planting import PLANTS
from export_scripts.drift.record import record_of_receipts
from export_scripts.receipts.shop import Shop
from export_scripts.settings import DriftSettings, load_settings
from operations.drift.comparison import compare
from operations.drift.features import DAY, WEEK, of_counts
from operations.errors import BadSettings
from operations.records.drift_record import DriftRecord
from tests.building.world import arrays_of, shop_of

SETTINGS = load_settings().drift


def settings(**changes: object) -> DriftSettings:
    return SETTINGS.model_copy(update=changes)


def steady_shop(days: int = 140, baskets: int = 40, items: int = 40, seed: int = 0) -> Shop:
    """A shop in which nothing changes: the same 20 users buy the same items, best sellers most."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, items + 1)
    shares /= shares.sum()
    receipts = []
    for day in range(days):
        for number in range(baskets):
            size = 1 + rng.integers(6)
            rows = (rng.choice(items, size, False, shares) + 1).tolist()
            receipts.append((1 + int(rng.integers(20)), day + (8 + number / 4) / 24, rows))
    return shop_of(receipts, items, {"kind": [f"k{row % 8}" for row in range(items)]})


@pytest.fixture(scope="module")
def shop() -> Shop:
    return steady_shop()


@pytest.fixture(scope="module")
def groups(shop: Shop) -> Groups:
    return groups_of(arrays_of(shop))


@pytest.fixture(scope="module")
def record(shop: Shop, groups: Groups) -> DriftRecord:
    """The record of all weeks but the last."""
    return record_of_receipts(shop, shop.first_basket_at(133 * 86_400), groups, SETTINGS)


def alarms(record: DriftRecord, baskets: Baskets, groups: Groups, window: str = WEEK) -> set[str]:
    from export_scripts.drift.counting import labels_of

    counted = count(baskets, np.zeros(len(baskets), np.int64), 1, groups)
    labels = labels_of(groups)
    asked = {
        name: of_counts(labels[name], counts[0], counted.observations[name][0])
        for name, counts in counted.counts.items()
    }
    return {finding.feature for finding in compare(record, asked, window) if finding.drifted}


def test_baskets_are_counted_by_period_and_feature() -> None:
    """Two receipts: on Thursday 1 January 1970 at 10 with items 1 and 2, a day later at 9 with item 2."""
    shop = shop_of([(0, 10 / 24, [1, 2]), (1, 33 / 24, [2])], 2, {"kind": ["tea", "milk"]})
    counted = count(baskets_of(shop, 0, 2), np.array([0, 1]), 2, groups_of(arrays_of(shop)))
    assert counted.counts["basket_size"][:, 1:3].tolist() == [[0, 1], [1, 0]]
    assert counted.counts["users"].tolist() == [[1, 0], [0, 1]]
    assert counted.counts["category"].tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]], "milk sells best"
    assert np.argwhere(counted.counts["hour"]).tolist() == [[0, 10], [1, 9]]
    assert np.argwhere(counted.counts["weekday"]).tolist() == [[0, 3], [1, 4]]
    assert counted.observations["category"].tolist() == [1, 1], "items of one basket are one observation"
    assert counted.observations["unknown_users"].tolist() == [0, 1]


def test_a_steady_shop_raises_no_alarm(record: DriftRecord, shop: Shop, groups: Groups) -> None:
    """The shop's thresholds are the least ones: nothing but chance lies between its weeks."""
    last_week = baskets_of(shop, shop.first_basket_at(133 * 86_400), shop.n_baskets)
    assert alarms(record, last_week, groups) == set()
    assert record.thresholds[WEEK]["category"] == SETTINGS.least
    assert record.calibrated >= 20


@pytest.mark.parametrize(
    ("planted", "feature"),
    [
        ("new assortment, 5 % of the sales", "unknown_items"),
        ("lost category, the 1st by sales", "category"),
        ("doubled baskets", "basket_size"),
        ("a till that sends other ids, 5 % of the baskets", "unknown_items"),
        ("new customers, 10 % of the baskets", "unknown_users"),
    ],
)
def test_planted_drift_is_found_within_a_week(
    record: DriftRecord, shop: Shop, groups: Groups, planted: str, feature: str
) -> None:
    last_week = baskets_of(shop, shop.first_basket_at(133 * 86_400), shop.n_baskets)
    changed = PLANTS[planted](last_week, groups, np.random.default_rng(0))
    assert feature in alarms(record, changed, groups)


def test_thresholds_grow_with_the_shop_s_own_changes(shop: Shop, groups: Groups) -> None:
    """Every second week only every second basket is bought; those have other sizes."""
    sizes = np.diff(shop.offsets)
    odd_week = shop.times // (7 * 86_400) % 2 == 1
    kept = np.flatnonzero(~odd_week | (sizes > 3))
    receipts = [
        (int(shop.users[n]), float(shop.times[n]) / 86_400, shop.basket(n).tolist()) for n in kept.tolist()
    ]
    moody = shop_of(receipts, 40, {"kind": [f"k{row % 8}" for row in range(40)]})
    made = record_of_receipts(moody, moody.n_baskets, groups, SETTINGS)
    assert made.thresholds[WEEK]["basket_size"] > 4 * SETTINGS.least


def test_new_items_are_expected_at_the_rate_of_the_past(groups: Groups) -> None:
    """Each day one of ten baskets holds an item that was never sold before."""
    receipts = [
        (1, day + n / 24, [1 + n, 40 + day] if n == 0 else [1 + n]) for day in range(140) for n in range(10)
    ]
    shop = shop_of(receipts, 200)
    made = record_of_receipts(shop, shop.n_baskets, groups_of(arrays_of(shop)), SETTINGS)
    counts = made.features["unknown_items"].counts
    assert counts["unknown"] / sum(counts.values()) == pytest.approx(1 / 11, abs=0.02)


def test_a_young_shop_keeps_what_there_is() -> None:
    """Four days: two are the reference, and no threshold can be learnt."""
    shop = steady_shop(days=4)
    made = record_of_receipts(shop, shop.n_baskets, groups_of(arrays_of(shop)), SETTINGS)
    assert sum(made.features["basket_size"].counts.values()) == 80
    assert made.thresholds[DAY]["category"] == SETTINGS.uncalibrated


def test_own_thresholds_replace_the_calibrated_ones(shop: Shop, groups: Groups) -> None:
    own = settings(thresholds={"basket_size": 0.5})
    made = record_of_receipts(shop, shop.n_baskets, groups, own)
    assert {of_window["basket_size"] for of_window in made.thresholds.values()} == {0.5}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("drift.timezone", "Mars/Olympus", "no such time zone"), ("drift.thresholds.size", 0.1, "no feature")],
)
def test_settings_that_mean_nothing_are_refused(name: str, value: object, words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        load_settings(overrides={name: value})
