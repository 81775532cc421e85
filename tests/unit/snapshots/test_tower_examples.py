"""The baskets that the tower learns from: which ones a step draws, and what a batch asks."""

from typing import Any

import numpy as np
import pytest

from export_scripts.receipts.shop import Shop
from export_scripts.settings import load_settings
from export_scripts.snapshots.retrieval.examples import Examples
from tests.building.world import shop_of

STEPS = 40


def examples_of(shop: Shop, **retrieval: Any) -> Examples:
    settings = load_settings(overrides={f"retrieval.{name}": value for name, value in retrieval.items()})
    marks = np.arange(shop.n_items) > 0
    return Examples(shop, shop.n_baskets, marks, np.ones(shop.n_baskets, bool), settings.retrieval)


def share_of_user_2(examples: Examples) -> float:
    rng = np.random.default_rng(0)
    users = [examples.users(chosen) for chosen in examples.draw(STEPS, rng)]
    return float((np.concatenate(users) == 2).mean())


def test_every_epoch_asks_every_basket() -> None:
    """300 baskets of two items and one of a single item: two batches of 128, then a new order."""
    shop = shop_of([(1, d, [1, 2]) for d in range(300)] + [(1, 300, [3])], items=3)
    examples = examples_of(shop, epochs=2)
    assert (len(examples), examples.steps) == (300, 4)
    first, second, *_rest = examples.draw(4, np.random.default_rng(0))
    assert len(set(first.tolist()) | set(second.tolist())) == 2 * 128


@pytest.mark.parametrize(
    ("heavy_users", "most_steps", "share"),
    [
        (0.5, 10, 10 / (10 + 30)),  # of 100 and 900 baskets, the roots count
        (0.0, 10, 0.5),
        (1.0, 10, 0.1),
        (0.0, 10_000, 0.1),  # nothing is left out, so nobody is left out
    ],
)
def test_heavy_users_do_not_own_a_capped_training(heavy_users: float, most_steps: int, share: float) -> None:
    """User 2 has 100 baskets and user 1 has 900."""
    shop = shop_of([(2 if d % 10 == 0 else 1, d, [1, 2]) for d in range(1_000)], items=3)
    examples = examples_of(shop, heavy_users=heavy_users, most_steps=most_steps)
    assert share_of_user_2(examples) == pytest.approx(share, abs=0.03)


def test_baskets_of_nobody_keep_their_share() -> None:
    """Half of the baskets name no user: together they are no heavy user."""
    shop = shop_of([(2 * (d % 2), d, [1, 2]) for d in range(1_000)], items=3)
    examples = examples_of(shop, heavy_users=0.0, most_steps=10)
    assert share_of_user_2(examples) == pytest.approx(0.5, abs=0.03)


def test_a_batch_asks_with_the_rest_of_the_basket() -> None:
    """One item of each basket is the target, the others ask; none of them is a wrong answer."""
    shop = shop_of([(1, 0, [1, 2, 3]), (2, 1, [2, 4])], items=6)
    batch = examples_of(shop, uniform_negatives=50, user_dropout=0.0).batch(
        np.array([0, 1]), np.random.default_rng(0)
    )
    assert batch.users.tolist() == [1, 2]
    assert batch.sizes.tolist() == [2, 1]
    asked = np.split(batch.basket.numpy(), [2])
    pool = batch.pool.tolist()
    excluded = set(zip(*batch.excluded.tolist(), strict=True))
    for query, basket in enumerate(({1, 2, 3}, {2, 4})):
        assert set(asked[query].tolist()) | {pool[query]} == basket
        places = {place for place, item in enumerate(pool) if item in basket and place != query}
        assert {place for owner, place in excluded if owner == query} == places
