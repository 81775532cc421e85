"""A tower in another shop's numbering: each id keeps its vector, and what is new starts as cold start."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from export_scripts.receipts.shop import Shop
from export_scripts.settings import load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.leaks import check_leaks
from export_scripts.snapshots.retrieval import training
from export_scripts.snapshots.retrieval.renumbering import Numbering, renumber
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.retrieval.training import continue_tower, train_tower
from export_scripts.snapshots.snapshot import snapshot
from tests.building.world import shop_of

SMALL: dict[str, Any] = {
    "retrieval.dimensions": 8,
    "retrieval.epochs": 3,
    "retrieval.batch_size": 64,
    "retrieval.uniform_negatives": 16,
    "sampler.min_support": 1,
}
SETTINGS = load_settings(overrides=SMALL)
KINDS = ["b", "c", "b", "c", "b", "c", "b"]
RECEIPTS = [(1 + day % 3, day, [1 + day % 3, 4 + day % 3]) for day in range(30)]
BEFORE = shop_of(RECEIPTS, items=7, users=3, categories={"kind": KINDS})  # item 7 is never sold
SEEN = 20


@pytest.fixture(autouse=True)
def goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tower of this small shop goes on, as that of a large one."""
    monkeypatch.setattr(training, "LEAST_CONTINUED", 0)


@pytest.fixture(scope="module")
def tower() -> TrainedTower:
    """It has seen days 0 to 19."""
    return train_tower(BEFORE, SEEN, counts.categories(BEFORE, SEEN)[0].of_item, SETTINGS)


def later_shop() -> Shop:
    """The same receipts and ten more days, numbered anew: users and items backwards, a new one of each first.

    User u1 has taken back all early receipts, and category "a" comes before the others.
    """
    receipts = [(5 - user, day, [9 - item for item in items]) for user, day, items in RECEIPTS[:SEEN]]
    receipts = [basket for basket in receipts if basket[0] != 4]
    receipts += [(1 + day % 4, day, [1, 2 + day % 7]) for day in range(SEEN, 40)]
    shop = shop_of(receipts, items=8, users=4, categories={"kind": ["a", *reversed(KINDS)]})
    names = ["", "new", *(f"i{row:04d}" for row in range(7, 0, -1))]
    catalog = pd.DataFrame({"item_id": names, "name": names, "kind": shop.catalog["kind"]})
    return replace(shop, catalog=catalog, user_ids=["", "new", "u3", "u2", "u1"])


def test_an_id_keeps_its_vectors(tower: TrainedTower, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipts since change nothing before the first step."""
    shop = later_shop()
    seen = shop.first_basket_at(int(BEFORE.times[SEEN]))
    rows = Numbering.of(shop).rows_in(Numbering.of(BEFORE))
    assert rows.items.tolist() == [0, -1, 7, 6, 5, 4, 3, 2, 1]
    assert rows.users.tolist() == [0, -1, 3, 2, 1]
    assert rows.categories.tolist() == [0, -1, 1, 2]
    moved = renumber(tower, rows, shop, seen, SETTINGS)
    assert (moved.end, moved.steps, moved.scale) == (seen, tower.steps, tower.scale)
    assert moved.known_users.tolist() == [True, False, True, True, False]
    monkeypatch.setattr(training, "train_step", lambda *_: 0.0)
    start, old = continue_tower(moved, shop, 30, SETTINGS).network, tower.network
    assert torch.equal(start.users.weight[[0, 2, 3]], old.users.weight[[0, 3, 2]])
    assert torch.equal(start.users.weight[[1, 4]], old.users.weight[[0, 0]])
    sold, before = torch.arange(3, 9), torch.arange(6, 0, -1)
    assert torch.equal(start.item(sold), old.item(before))
    assert torch.equal(start.basket(start.codes[sold]), old.basket(old.codes[before]))
    assert torch.equal(start.item(torch.tensor([2])), old.item(torch.tensor([7])))


def test_going_on_there_is_no_leak(tower: TrainedTower) -> None:
    """The detector sees a tower that knows no user whose receipts before the moment are gone."""
    shop = later_shop()
    seen = shop.first_basket_at(int(BEFORE.times[SEEN]))
    moved = renumber(tower, Numbering.of(shop).rows_in(Numbering.of(BEFORE)), shop, seen, SETTINGS)
    arrays = snapshot(shop, seen + 1, SETTINGS, tower=moved)
    check_leaks(shop, arrays, seen + 1, SETTINGS)
    assert (arrays.retrieval.users[4] == arrays.retrieval.users[0]).all()


def test_the_optimizer_goes_on_with_its_numbers(tower: TrainedTower) -> None:
    """In the same numbering, the tower goes on as if it had never been renumbered."""
    same = Numbering.of(BEFORE)
    moved = renumber(tower, Numbering.from_json(same.to_json()).rows_in(same), BEFORE, SEEN, SETTINGS)
    one, other = (continue_tower(each, BEFORE, 30, SETTINGS).vectors() for each in (tower, moved))
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)
