"""Two ranks train the tower that one process trains when it averages the gradients of both shares."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from export_scripts.engines.interface import WorkerLost
from export_scripts.engines.local import ThisProcess, open_local
from export_scripts.settings import load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.retrieval import ranks, training
from export_scripts.snapshots.retrieval.examples import Examples
from export_scripts.snapshots.retrieval.ranks import continue_in_parallel, train_in_parallel
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.retrieval.training import loss_of, new_tower, train_tower
from operations.errors import CestaError
from tests.building.world import random_shop

END = 150
SHOP = random_shop(np.random.default_rng(0))
SMALL: dict[str, Any] = {
    "retrieval.dimensions": 8,
    "retrieval.epochs": 6,
    "retrieval.continued": 1.0,
    "retrieval.uniform_negatives": 32,
    "sampler.min_support": 1,
}
SETTINGS = load_settings(overrides=SMALL)
OF_ITEM = counts.categories(SHOP, END)[0].of_item


def averaged_by_hand(ranks: int, stretch: int, tower: TrainedTower, end: int) -> TrainedTower:
    """Every step computes the gradients of all shares, one after the other."""
    seeds, marks = [7, tower.steps], counts.support(SHOP, end) >= SETTINGS.sampler.min_support
    examples = Examples(SHOP, end, marks, np.ones(SHOP.n_baskets, bool), SETTINGS.retrieval)
    tower.network.admit(marks, tower.known_users)
    steps = examples.steps  # of a trained tower, too
    for step, chosen in enumerate(examples.draw(steps, np.random.default_rng(seeds))):
        if step % stretch == 0:
            own = [np.random.default_rng([*seeds, step, rank]) for rank in range(ranks)]
        tower.optimizer.zero_grad()
        for rank in range(ranks):
            loss = loss_of(tower.network, examples.batch(chosen[rank::ranks], own[rank]))
            torch.autograd.backward(loss / ranks)
        tower.optimizer.param_groups[0]["lr"] = SETTINGS.retrieval.learning_rate * (1 - step / steps)
        tower.optimizer.step()
    return replace(tower, end=end, steps=tower.steps + steps)


def check_equal(trained: TrainedTower, expected: TrainedTower) -> None:
    for name, table in expected.network.named_parameters():
        np.testing.assert_allclose(
            trained.network.get_parameter(name).detach().numpy(), table.detach().numpy(), atol=1e-5
        )
    assert (trained.end, trained.steps) == (expected.end, expected.steps)


def test_two_ranks_average_their_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "LEAST_BASKETS", 10)
    with open_local(2) as engine:
        trained = train_in_parallel(SHOP, END, OF_ITEM, SETTINGS, engine)
    check_equal(trained, averaged_by_hand(2, 1_000, new_tower(SHOP, OF_ITEM, SETTINGS), END))


class OneFree(ThisProcess):
    """An engine of two workers, one of them busy; the calls whose numbers are ``lost`` lose the other."""

    workers = 2

    def __init__(self, lost: Collection[int] = ()) -> None:
        self.lost, self.calls = lost, 0

    def together(self, function: Any, partitions: Any, shared: Any) -> list[Any]:
        self.calls += 1
        if self.calls - 1 in self.lost:
            raise WorkerLost("a worker was killed")
        return super().together(function, partitions, shared)


def test_a_lost_rank_costs_the_steps_of_its_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps in stretches of four: the second is lost three times. As many more train it on."""
    monkeypatch.setattr(ranks, "LEAST_BASKETS", 10)
    monkeypatch.setattr(ranks, "STRETCH", 4)
    monkeypatch.setattr(training, "LEAST_CONTINUED", 0)  # or the small shop would get a new tower
    engine = OneFree(lost=(1, 2, 3))
    trained = train_in_parallel(SHOP, END, OF_ITEM, SETTINGS, engine)
    assert engine.calls == 5
    expected = averaged_by_hand(1, 4, new_tower(SHOP, OF_ITEM, SETTINGS), END)
    check_equal(trained, expected)
    continued = continue_in_parallel(trained, SHOP, END + 30, SETTINGS, engine)
    check_equal(continued, averaged_by_hand(1, 4, expected, END + 30))


def test_a_stretch_that_is_lost_too_often_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "LEAST_BASKETS", 10)
    with pytest.raises(CestaError, match="lost a worker in each of 4 tries: a worker was killed; run again"):
        train_in_parallel(SHOP, END, OF_ITEM, SETTINGS, OneFree(lost=range(9)))


def test_a_small_shop_is_trained_here() -> None:
    """Starting processes would take longer: the tower is the one of a single process."""
    with open_local(2) as engine:
        trained = train_in_parallel(SHOP, END, OF_ITEM, SETTINGS, engine)
    alone = train_tower(SHOP, END, OF_ITEM, SETTINGS)
    for mine, theirs in zip(trained.vectors(), alone.vectors(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
