"""Two ranks train the tower that one process trains when it averages the gradients of both shares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from export_scripts.engines.local import open_local
from export_scripts.settings import load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.retrieval import ranks
from export_scripts.snapshots.retrieval.examples import Examples
from export_scripts.snapshots.retrieval.ranks import train_in_parallel
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.retrieval.training import loss_of, new_tower, train_tower
from tests.building.world import random_shop

END = 150
SHOP = random_shop(np.random.default_rng(0))
SMALL: dict[str, Any] = {
    "retrieval.dimensions": 8,
    "retrieval.epochs": 6,
    "retrieval.uniform_negatives": 32,
    "sampler.min_support": 1,
}
SETTINGS = load_settings(overrides=SMALL)
OF_ITEM = counts.categories(SHOP, END)[0].of_item


def averaged_by_hand() -> TrainedTower:
    """Every step computes the gradients of both shares, one after the other."""
    tower = new_tower(SHOP, OF_ITEM, SETTINGS)
    marks = counts.support(SHOP, END) >= SETTINGS.sampler.min_support
    examples, rng = (
        Examples(SHOP, END, marks, np.ones(SHOP.n_baskets, bool), SETTINGS.retrieval),
        np.random.default_rng([7, 0]),
    )
    tower.network.admit(marks, tower.known_users)
    own = rng.spawn(2)
    for step, chosen in enumerate(examples.draw(examples.steps, rng)):
        tower.optimizer.zero_grad()
        for rank in (0, 1):
            torch.autograd.backward(loss_of(tower.network, examples.batch(chosen[rank::2], own[rank])) / 2)
        tower.optimizer.param_groups[0]["lr"] = SETTINGS.retrieval.learning_rate * (1 - step / examples.steps)
        tower.optimizer.step()
    return tower


def test_two_ranks_average_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "LEAST_BASKETS", 10)
    with open_local(2) as engine:
        trained = train_in_parallel(SHOP, END, OF_ITEM, SETTINGS, engine)
    expected = averaged_by_hand()
    for name, table in expected.network.named_parameters():
        np.testing.assert_allclose(
            trained.network.get_parameter(name).detach().numpy(), table.detach().numpy(), atol=1e-5
        )
    assert (trained.end, trained.steps) == (END, 6)


def test_a_small_shop_is_trained_here() -> None:
    """Starting processes would take longer: the tower is the one of a single process."""
    with open_local(2) as engine:
        trained = train_in_parallel(SHOP, END, OF_ITEM, SETTINGS, engine)
    alone = train_tower(SHOP, END, OF_ITEM, SETTINGS)
    for mine, theirs in zip(trained.vectors(), alone.vectors(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
