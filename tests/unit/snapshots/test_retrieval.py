"""The retrieval tower: rows that it leaves untrained, and a seed that gives the same tower twice."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Retrieval
from export_scripts.receipts.shop import Shop
from export_scripts.settings import RetrievalSettings
from export_scripts.snapshots import counts
from export_scripts.snapshots.tower import train_tower
from tests.building.world import random_shop, shop_of

SETTINGS = RetrievalSettings(
    dimensions=8, epochs=3, batch_size=64, learning_rate=0.01, uniform_negatives=32, user_dropout=0.2
)


def train(
    shop: Shop,
    end: int,
    supported: NDArray[np.bool_] | None = None,
    seed: int = 1,
    sampled: NDArray[np.bool_] | None = None,
) -> Retrieval:
    supported = counts.support(shop, end) > 0 if supported is None else supported
    sampled = np.ones(shop.n_baskets, bool) if sampled is None else sampled
    of_item = counts.categories(shop, end)[0].of_item
    return train_tower(shop, end, supported, of_item, SETTINGS, seed, sampled)


@pytest.fixture
def restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_seed_trains_the_same_tower_again(restored_threads: None) -> None:
    """The tower is the same bit for bit, whatever was drawn before and with any number of threads."""
    shop = random_shop(np.random.default_rng(0))
    towers = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.rand(threads)
        towers.append(train(shop, shop.n_baskets))
    for one, other in zip(*towers, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (train(shop, shop.n_baskets, seed=2).items != towers[0].items).any()


def test_the_future_is_not_learnt() -> None:
    """Two shops differ only after basket 100."""
    shop = random_shop(np.random.default_rng(0))
    changed = shop.items.copy()
    changed[shop.offsets[100] :] = np.roll(changed[shop.offsets[100] :], 7)
    for one, other in zip(train(shop, 100), train(Shop(**vars(shop) | {"items": changed}), 100), strict=True):
        np.testing.assert_array_equal(one, other)


def test_users_outside_the_sample_are_unknown_to_the_tower() -> None:
    """Items still have vectors of their own."""
    shop = random_shop(np.random.default_rng(0))
    left_out = shop.users[shop.users > 0][0]
    tower = train(shop, shop.n_baskets, sampled=shop.users != left_out)
    np.testing.assert_array_equal(tower.users[left_out], tower.users[0])
    assert (train(shop, shop.n_baskets).users[left_out] != tower.users[0]).any()


def test_what_was_never_met_is_unknown() -> None:
    """User 3 comes after the end. Item 5 is below the bar and has no category. Row 0 is no item."""
    shop = shop_of([(1, 0, [1, 2, 3]), (2, 1, [1, 2]), (3, 2, [2, 3])], items=5, users=3)
    tower = train(shop, 2, supported=np.array([False, True, True, True, True, False]))
    np.testing.assert_array_equal(tower.users[3], tower.users[0])
    assert (tower.users[1] != tower.users[0]).any()
    assert not tower.items[[0, 5]].any()
    assert not tower.basket[[0, 5]].any()
    assert tower.items[1].any()


def test_a_new_item_is_placed_by_its_category() -> None:
    shop = shop_of([(1, d, [1, 2]) for d in range(5)], items=3, categories={"kind": ["a", "b", "a"]})
    tower = train(shop, 5, supported=np.array([False, True, True, False]))
    assert tower.items[3].any()


def test_a_shop_of_single_items_has_nothing_to_learn() -> None:
    shop = shop_of([(1, 0, [1]), (1, 1, [2])], items=2)
    tower = train(shop, 2)
    assert [array.shape for array in tower] == [(2, 8), (3, 8), (3, 8)]
    assert not any(array.any() for array in tower)
