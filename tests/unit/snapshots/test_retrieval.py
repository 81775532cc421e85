"""The retrieval tower: what it may know, what it leaves untrained, and going on with it to a later moment."""

import io
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from ensemble.candidate_sampler.arrays import Retrieval
from export_scripts.receipts.shop import Shop
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.leaks import check_leaks
from export_scripts.snapshots.retrieval import training
from export_scripts.snapshots.retrieval.examples import Examples
from export_scripts.snapshots.retrieval.tower import Tower, TrainedTower
from export_scripts.snapshots.retrieval.training import continue_tower, new_tower, train_tower
from export_scripts.snapshots.sample import mark_sampled
from export_scripts.snapshots.snapshot import snapshot
from operations.errors import CestaError
from tests.building.world import random_shop, shop_of

SMALL: dict[str, Any] = {
    "retrieval.dimensions": 8,
    "retrieval.epochs": 3,
    "retrieval.batch_size": 64,
    "retrieval.learning_rate": 0.01,
    "retrieval.uniform_negatives": 32,
    "sampler.min_support": 1,
}
SHOP = random_shop(np.random.default_rng(0))


def settings_of(**retrieval: Any) -> Settings:
    return load_settings(overrides=SMALL | {f"retrieval.{name}": value for name, value in retrieval.items()})


SETTINGS = settings_of()


def train(shop: Shop, end: int, settings: Settings = SETTINGS) -> TrainedTower:
    return train_tower(shop, end, counts.categories(shop, end)[0].of_item, settings)


def vectors(shop: Shop, end: int, settings: Settings = SETTINGS) -> Retrieval:
    return train(shop, end, settings).vectors()


def assert_same(one: Retrieval, other: Retrieval) -> None:
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def later_baskets_changed(shop: Shop, end: int) -> Shop:
    """The shop with other items in the baskets from number ``end`` on."""
    items = shop.items.copy()
    items[shop.offsets[end] :] = np.roll(items[shop.offsets[end] :], 7)
    return replace(shop, items=items)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tower of this small shop goes on, as that of a large one."""
    monkeypatch.setattr(training, "LEAST_CONTINUED", 0)


@pytest.fixture(scope="module")
def early() -> TrainedTower:
    """A tower of the baskets before number 150."""
    return train(SHOP, 150)


def test_a_seed_trains_the_same_tower_again(early: TrainedTower, restored_threads: None) -> None:
    """The tower is the same bit for bit, whatever was drawn before and with any number of threads."""
    towers = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.rand(threads)
        towers.append((vectors(SHOP, 150), continue_tower(early, SHOP, 200, SETTINGS).vectors()))
    for one, other in zip(*towers, strict=True):
        assert_same(one, other)
    other_seed = load_settings(overrides=SMALL | {"train.seed": 2})
    assert (vectors(SHOP, 150, other_seed).items != towers[0][0].items).any()


def test_the_future_is_not_learnt(early: TrainedTower) -> None:
    """Two shops differ only after basket 200."""
    changed = later_baskets_changed(SHOP, 200)
    assert_same(vectors(SHOP, 200), vectors(changed, 200))
    for shop in (SHOP, changed):
        check_leaks(shop, snapshot(shop, 200, SETTINGS, tower=early), 200, SETTINGS)
    one, other = (continue_tower(early, shop, 200, SETTINGS).vectors() for shop in (SHOP, changed))
    assert_same(one, other)


def test_a_tower_never_goes_back(early: TrainedTower) -> None:
    with pytest.raises(CestaError, match="the retrieval tower has seen 150 baskets, and 149 may be known"):
        continue_tower(early, SHOP, 149, SETTINGS)


def test_users_outside_the_sample_are_unknown_to_the_tower() -> None:
    """Users of the sample have vectors of their own."""
    sampled = load_settings(overrides=SMALL | {"train.users": SHOP.n_users // 2})
    tower = vectors(SHOP, SHOP.n_baskets, sampled)
    unknown = (tower.users == tower.users[0]).all(1)
    drawn = np.zeros(SHOP.n_users, bool)
    drawn[SHOP.users[mark_sampled(SHOP, SHOP.n_users // 2)]] = True
    assert unknown[~drawn].all()
    assert not unknown[drawn][1:].all()


def test_what_was_never_met_is_unknown() -> None:
    """User 3 comes after the end. Item 5 is below the bar. Row 0 is no item. Nothing has a category."""
    shop = shop_of([(1, 0, [1, 2, 3]), (2, 1, [1, 2, 4]), (3, 2, [2, 3])], items=5, users=3)
    tower = vectors(shop, 2)
    np.testing.assert_array_equal(tower.users[3], tower.users[0])
    assert (tower.users[1] != tower.users[0]).any()
    assert not tower.items[[0, 5]].any()
    assert not tower.basket[[0, 5]].any()
    assert tower.items[1].any()


def test_a_new_item_is_placed_by_its_category() -> None:
    shop = shop_of([(1, d, [1, 2]) for d in range(5)], items=3, categories={"kind": ["a", "b", "a"]})
    tower = vectors(shop, 5)
    assert tower.items[3].any()


def test_a_shop_of_single_items_has_nothing_to_learn() -> None:
    shop = shop_of([(1, 0, [1]), (1, 1, [2])], items=2)
    tower = vectors(shop, 2)
    assert [array.shape for array in tower] == [(2, 8), (3, 8), (3, 8)]
    assert not any(array.any() for array in tower)


def test_going_on_starts_where_cold_start_puts_newcomers(monkeypatch: pytest.MonkeyPatch) -> None:
    """User 2 and item 7 come after basket 20. Before the first step they are what they were."""
    receipts = [(1, d, [1 + d % 3, 4 + d % 3]) for d in range(20)] + [(2, 20 + d, [1, 7]) for d in range(5)]
    shop = shop_of(receipts, items=7, categories={"kind": [*"abcdeff"]})
    before = train(shop, 20)
    monkeypatch.setattr(training, "train_step", lambda *_: 0.0)
    start = continue_tower(before, shop, 25, SETTINGS).network
    users = start.users.weight.detach()
    assert torch.equal(users[2], users[0])
    assert torch.equal(users[:2], before.network.users.weight[:2])
    old, new = (network.items(network.codes[1:]).detach() for network in (before.network, start))
    assert torch.equal(old, new)


def test_going_on_learns_the_later_baskets(early: TrainedTower) -> None:
    """All users and items of the later baskets get vectors; the earlier tower stays as it is."""
    state = {name: table.clone() for name, table in early.network.state_dict().items()}
    later = continue_tower(early, SHOP, 250, settings_of(continued=0.4))
    assert later.end == 250
    assert later.known_users[np.unique(SHOP.users[150:])].all()
    sold = np.flatnonzero(counts.support(SHOP, 250) > 0)
    assert (later.network.codes[sold, 0] == torch.from_numpy(sold)).all()
    assert all(torch.equal(table, state[name]) for name, table in early.network.state_dict().items())


def test_going_on_takes_a_share_of_the_steps(early: TrainedTower) -> None:
    """Three epochs of 2 batches of 64 by basket 150, of 3 batches by basket 250: two thirds of 9 steps."""
    assert early.steps == 6
    assert continue_tower(early, SHOP, 250, settings_of(continued=0.67)).steps == 6 + 6


def test_a_small_shop_gets_a_new_tower(early: TrainedTower, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tower that went on would see 6 batches of 64."""
    chosen = settings_of(continued=0.67)
    monkeypatch.setattr(training, "LEAST_CONTINUED", 6 * 64)
    assert continue_tower(early, SHOP, 250, chosen).steps == 6 + 6
    monkeypatch.setattr(training, "LEAST_CONTINUED", 6 * 64 + 1)
    assert_same(continue_tower(early, SHOP, 250, chosen).vectors(), vectors(SHOP, 250, chosen))


def test_a_saved_tower_goes_on_as_if_it_had_stayed(early: TrainedTower) -> None:
    content = io.BytesIO()
    torch.save(early.state, content)
    content.seek(0)
    loaded = TrainedTower.load(torch.load(content, weights_only=True))
    assert_same(early.vectors(), loaded.vectors())
    one, other = (continue_tower(tower, SHOP, 250, SETTINGS).vectors() for tower in (early, loaded))
    assert_same(one, other)


def test_steps_are_capped() -> None:
    """With 2 steps, at most 2 batches of users are known; a cap that is not reached changes nothing."""
    users = random_shop(np.random.default_rng(0), users=2_000, baskets=1_500)
    capped = train(users, 1_500, settings_of(most_steps=2))
    assert capped.steps == 2
    assert 0 < int(capped.known_users.sum()) <= 2 * 64
    assert_same(vectors(SHOP, 150), vectors(SHOP, 150, settings_of(most_steps=6)))


def test_only_the_rows_of_a_batch_cost_anything(early: TrainedTower) -> None:
    """The gradient of each table has the rows that the batch has read."""
    tower = new_tower(SHOP, counts.categories(SHOP, 150)[0].of_item, SETTINGS)
    tower.network.admit(counts.support(SHOP, 150) > 0, tower.known_users)
    examples = Examples(SHOP, 150, counts.support(SHOP, 150) > 0, np.ones(150, bool), SETTINGS.retrieval)
    batch = examples.batch(np.arange(3), np.random.default_rng(0))
    torch.autograd.backward(training.loss_of(tower.network, batch))
    network = tower.network
    assert moved(network.users.weight) == set(batch.users.tolist())
    assert moved(network.basket.weight) == rows_of(network, batch.basket)
    assert moved(network.items.weight) == rows_of(network, batch.pool)


def moved(table: torch.Tensor) -> set[int]:
    """The rows that have a gradient."""
    assert table.grad is not None
    return set(table.grad.coalesce().indices()[0].tolist())


def rows_of(network: Tower, items: torch.Tensor) -> set[int]:
    """The rows of ids and categories that make the vectors of ``items``."""
    return set(network.codes[items].flatten().tolist()) - {0}
