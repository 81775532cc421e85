"""The groups that are resampled for the intervals."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from export_scripts.quality.groups import Groups
from export_scripts.quality.metrics import MISSED
from export_scripts.snapshots.splits import HiddenItems


def groups(owners: int) -> Any:
    """200 queries of 100 baskets, dealt to so many users."""
    baskets = np.repeat(np.arange(100), 2)
    hidden = HiddenItems(baskets, np.ones(200, np.int32))
    return SimpleNamespace(seed=1, resamples=200, hidden=hidden, owners=baskets % owners)


@pytest.mark.parametrize("owners", [1, 19])
def test_few_users_are_resampled_by_basket(owners: int) -> None:
    """One user alone would not vary. 100 baskets, half of them hits, vary by 0.1 either way in 95 %."""
    ranks = np.where(np.arange(200) < 100, 0.0, MISSED)
    low, high = Groups.summarise(groups(owners), ranks)["interval"]["hr_at_10"]
    assert high - low == pytest.approx(0.2, abs=0.04)


def test_many_users_are_resampled_as_users() -> None:
    """Twenty users each hit half of the time: the mean is the same for every draw."""
    ranks = np.where(np.arange(200) < 100, 0.0, MISSED)
    low, high = Groups.summarise(groups(20), ranks)["interval"]["hr_at_10"]
    assert high - low < 0.1
