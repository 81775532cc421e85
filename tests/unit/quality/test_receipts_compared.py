"""Receipts of a candidate beside those of the active release; shops of nine weeks, 40 baskets a day."""

import dataclasses

import numpy as np
import pytest

from export_scripts.quality.against.receipts_compared import LEAST_BASKETS, baskets_by_day, compare_receipts
from export_scripts.receipts.shop import Shop
from operations.records.comparison import ReceiptsCompared
from operations.records.manifest import DataRecord
from tests.building.world import DAY, shop_of

BASKETS = 40
WEEKS = 9
NEW = 56  # the first day that is new to the active release


def shop(lost: tuple[int, ...] = (), days: int = 7 * WEEKS, shift: int = 0) -> Shop:
    """Forty baskets a day but for the lost days; customer and item ids of new days start at ``shift``."""
    receipts = [
        (1 + n + (shift if day >= NEW else 0), day + 0.3 + n / 100, [1 + n + (shift if day >= NEW else 0)])
        for day in range(days)
        if day not in lost
        for n in range(BASKETS)
    ]
    return shop_of(receipts, items=2 * BASKETS, users=BASKETS + shift)


def record(of: Shop) -> DataRecord:
    """What a release's manifest says about its receipts."""
    counts = baskets_by_day(of)
    assert counts is not None
    return DataRecord(
        first=f"1970-01-{1 + of.times[0] // DAY:02d}T07:12:00Z",
        users=BASKETS,
        baskets_by_day=" ".join(map(str, counts.tolist())),
    )


def compare(candidate: Shop, active: Shop | None = None) -> ReceiptsCompared:
    active = active or shop(days=NEW)
    items, customers = (
        (np.arange(rows) > 0) & (np.arange(rows) <= BASKETS)
        for rows in (candidate.n_items, candidate.n_users)
    )
    return compare_receipts(candidate, record(active), int(active.times[-1]) + 1, items, customers)


def test_usual_receipts_are_as_before() -> None:
    found = compare(shop())
    assert found.json_object() == {
        "customers": {"then": 40, "now": 40},
        "shared": {"then": NEW * BASKETS, "now": NEW * BASKETS},
        "shrunk_days": (),
        "new": {"then": 8 * BASKETS, "now": 8 * BASKETS},  # with the active release's last day
        "quiet_days": (),
        "familiar_items": {"then": 1.0, "now": 1.0},
        "familiar_customers": {"then": 1.0, "now": 1.0},
    }


def test_a_day_that_the_active_release_had_is_missed() -> None:
    """The new receipts are as usual, so nothing else tells."""
    found = compare(shop(lost=(20,)))
    assert found.shared is not None
    assert found.shared.now == (NEW - 1) * BASKETS
    assert [(day.day, day.baskets, day.usual) for day in found.shrunk_days] == [("1970-01-21", 0, 40)]
    assert found.quiet_days == ()


def test_a_lost_new_day_is_missed() -> None:
    found = compare(shop(lost=(58,)))
    assert [(day.day, day.baskets, day.usual) for day in found.quiet_days] == [("1970-02-28", 0, 40)]
    assert found.shrunk_days == ()


def test_a_last_day_that_has_just_begun_is_no_lost_day() -> None:
    """It ends at 7:12 with its first basket; one basket is usual by then, too few to judge."""
    whole = shop()
    begun = whole.n_baskets - BASKETS + 1
    cut = shop_of(
        [(int(whole.users[b]), float(whole.times[b] / DAY), whole.basket(b).tolist()) for b in range(begun)],
        items=2 * BASKETS,
    )
    found = compare(cut)
    assert found.quiet_days == ()
    assert found.new is not None
    assert found.new.then == 7 * BASKETS + 1


def test_a_window_that_moved_on_loses_nothing() -> None:
    """The candidate's first days are gone, and its first day is half a day."""
    whole = shop()
    moved = whole.first_basket_at(round(10.5 * DAY))
    window = shop_of(
        [
            (int(whole.users[b]), float(whole.times[b] / DAY), whole.basket(b).tolist())
            for b in range(moved, whole.n_baskets)
        ],
        items=2 * BASKETS,
    )
    found = compare(window)
    assert found.shared is not None
    assert found.shared.then == found.shared.now == (NEW - 11) * BASKETS
    assert found.shrunk_days == ()


def test_other_ids_are_strangers() -> None:
    """A till that sends other numbers for customers and items."""
    found = compare(shop(shift=BASKETS))
    assert found.familiar_items is not None
    assert found.familiar_customers is not None
    assert (found.familiar_items.then, found.familiar_items.now) == (1.0, 0.0)
    assert (found.familiar_customers.then, found.familiar_customers.now) == (1.0, 0.0)


@pytest.mark.parametrize("days", [14, NEW])
def test_too_little_to_compare_with_is_left_out(days: int) -> None:
    """Two weeks are no usual weeks; without new receipts nothing is new."""
    young = shop(days=days)
    found = compare(young, active=shop(days=min(days, 10)))
    assert found.new is None or days > 14
    assert found.quiet_days == ()


def test_small_shops_are_not_judged_by_days() -> None:
    small = shop_of([(1, day + 0.5, [1]) for day in range(63) if day != 60], items=1)
    found = compare(small, active=shop_of([(1, day + 0.5, [1]) for day in range(NEW)], items=1))
    assert LEAST_BASKETS > 8
    assert (found.new, found.quiet_days, found.familiar_items) == (None, (), None)


def test_receipts_without_times_have_no_days() -> None:
    timeless = dataclasses.replace(shop(), day=3.0)
    assert baskets_by_day(timeless) is None
    assert np.array_equal(baskets_by_day(shop(days=3)), [BASKETS] * 3)
