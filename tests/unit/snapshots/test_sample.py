"""The sample of users that trains scorer and tower."""

from dataclasses import replace

import numpy as np
import pytest

from export_scripts.settings import load_settings
from export_scripts.snapshots.sample import mark_sampled
from operations.errors import CestaError
from tests.building.world import shop_of

USERS = 400
SHOP = shop_of([(number % (USERS + 1), number, [1, 2]) for number in range(4_010)], items=2, users=USERS)


def test_a_sample_has_about_so_many_users_each_with_all_baskets() -> None:
    """A quarter of 400 users, ten baskets each. The ten baskets of nobody are drawn one by one."""
    marks = mark_sampled(SHOP, 100)
    baskets = np.bincount(SHOP.users[marks], minlength=USERS + 1)
    assert set(baskets[1:]) == {0, 10}
    assert 75 < (baskets[1:] > 0).sum() < 125


def test_baskets_without_a_user_are_drawn_in_the_same_share() -> None:
    nobody = replace(SHOP, users=np.where(np.arange(SHOP.n_baskets) < 2_000, 0, SHOP.users).astype(np.int32))
    assert mark_sampled(nobody, 100)[nobody.users == 0].mean() == pytest.approx(0.25, abs=0.03)


def test_a_smaller_sample_is_a_part_of_a_larger_one() -> None:
    few, more = mark_sampled(SHOP, 50), mark_sampled(SHOP, 200)
    assert few.any()
    assert (few <= more).all()


def test_a_user_is_drawn_by_the_id_alone() -> None:
    """The same users in another order, with other baskets."""
    moved = replace(SHOP, user_ids=["", *SHOP.user_ids[:0:-1]])
    drawn = {SHOP.user_ids[row] for row in SHOP.users[mark_sampled(SHOP, 100)]}
    assert drawn == {moved.user_ids[row] for row in moved.users[mark_sampled(moved, 100)]}


@pytest.mark.parametrize("users", [None, USERS, 10_000])
def test_without_a_smaller_number_all_are_taken(users: int | None) -> None:
    assert mark_sampled(SHOP, users).all()


def test_a_sample_of_nobody_is_refused() -> None:
    assert load_settings().train.users is None
    assert load_settings(overrides={"train.users": 200}).train.users == 200
    with pytest.raises(CestaError, match=r"train\.users"):
        load_settings(overrides={"train.users": 0})
