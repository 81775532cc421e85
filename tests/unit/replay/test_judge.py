"""The gate's verdicts over hand-made ranks, and the planted faults of receipts."""

import numpy as np
import pytest

from export_scripts.quality.metrics import MISSED
from export_scripts.receipts.shop import Shop
from export_scripts.replay import faults
from export_scripts.replay.judge import Measured, draw_again, measure, verdicts
from export_scripts.replay.trial import Pair
from export_scripts.settings import load_settings
from operations.records.comparison import Day, ReceiptsCompared, ThenAndNow
from tests.building.world import DAY, shop_of

SETTINGS = load_settings(overrides={"evaluate.bootstrap": 100})
RECEIPTS = ReceiptsCompared(
    customers=ThenAndNow(then=9, now=9), quiet_days=(Day(day="2017-12-05", baskets=390, usual=400),)
)
N = 1000


def ranks(hits: int) -> np.ndarray:
    """The hidden item is first in so many answers of N, and missed in the others."""
    places = np.full(N, float(MISSED))
    places[:hits] = 0
    return places


def pair(candidate: int, own: int, active: int = 200) -> Pair:
    """Hits of the active release and of the candidate on the same questions, and on its own period."""
    owners = np.arange(N) % 250
    return Pair(ranks(active), ranks(candidate), owners, ranks(own), owners)


ACTIVE_OWN = measure(ranks(200), np.arange(N) % 250, SETTINGS)


@pytest.mark.parametrize(
    ("candidate", "own", "expected"),
    [
        (200, 200, (False, False)),
        (200, 120, (False, True)),  # harder weeks: the gate of before refuses an equal release
        (150, 260, (True, False)),  # easier weeks: it passes one that finds a quarter less
        (195, 200, (False, False)),  # within the margin
    ],
)
def test_the_gate_looks_at_the_same_questions(candidate: int, own: int, expected: tuple[bool, bool]) -> None:
    assert verdicts(pair(candidate, own), RECEIPTS, ACTIVE_OWN, SETTINGS) == expected


def test_lost_receipts_are_refused_whatever_the_quality() -> None:
    lost = RECEIPTS.model_copy(update={"shared": ThenAndNow(then=1000, now=500)})
    assert verdicts(pair(210, 210), lost, ACTIVE_OWN, SETTINGS) == (True, False)


def test_means_and_intervals_are_those_of_the_ranks() -> None:
    assert ACTIVE_OWN.values == {"hr_at_10": 0.2, "ndcg_at_10": 0.2}
    low, high = ACTIVE_OWN.bounds["hr_at_10"]
    assert 0.15 < low < 0.2 < high < 0.25
    assert isinstance(ACTIVE_OWN, Measured)


def test_owners_are_drawn_with_all_their_questions() -> None:
    """Three owners with 1, 2 and 3 questions, which their ranks name."""
    owners = np.array([7, 8, 8, 9, 9, 9])
    named = Pair(owners * 1.0, owners * 1.0, owners, owners * 1.0, owners)
    drawn = draw_again(named, np.random.default_rng(3))
    for number in np.unique(drawn.owners):
        (name,) = np.unique(drawn.active[drawn.owners == number])
        assert np.count_nonzero(drawn.owners == number) == name - 6
    assert len(np.unique(drawn.owners)) == 3
    assert np.array_equal(drawn.active, drawn.candidate)


SHOP = shop_of([(1 + n % 4, day + n / 10, [1 + n % 5, 6]) for day in range(6) for n in range(8)], items=12)
START = SHOP.first_basket_at(3 * DAY)


def planted(name: str) -> Shop:
    broken = faults.FAULTS[name](SHOP, START, np.random.default_rng(0))
    assert broken is not None
    return broken


def test_a_lost_day_is_gone_and_nothing_else() -> None:
    for name, days in (("a lost new day", {4}), ("a lost old day", {1})):
        broken = planted(name)
        assert broken.n_baskets == SHOP.n_baskets - 8
        assert {*range(6)} - {*(broken.times // DAY).tolist()} == days
        assert broken.offsets[-1] == len(broken.items)


def test_half_of_the_customers_are_gone() -> None:
    broken = planted("half of the customers")
    assert len(np.unique(broken.users)) == 2
    assert np.array_equal(np.diff(broken.offsets), np.full(24, 2))


@pytest.mark.parametrize("name", ["other item ids in new receipts", "shuffled items in new receipts"])
def test_only_new_lines_are_changed(name: str) -> None:
    broken = planted(name)
    assert np.array_equal(broken.items[: SHOP.offsets[START]], SHOP.items[: SHOP.offsets[START]])
    assert (np.diff(broken.offsets)[START:] >= 1).all()
    for number in range(broken.n_baskets):
        assert (np.diff(broken.basket(number)) > 0).all()
    new = broken.items[broken.offsets[START] :]
    assert {*new.tolist()} <= ({*range(7, 13)} if "ids" in name else {*range(1, 7)})


def test_new_customers_have_no_ids() -> None:
    broken = planted("no customer ids in new receipts")
    assert not broken.users[START:].any()
    assert broken.users[:START].all()
