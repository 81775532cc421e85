"""A small world for the tests of `cesta paper`: users of four tastes."""

from collections.abc import Sequence

import numpy as np

from export_scripts.paper.files import Protocol
from export_scripts.settings import PaperSettings, load_settings

USERS = 200
SMALL = {
    "paper.candidates": 2,
    "paper.first_epochs": 1,
    "paper.patience": 2,
    "paper.gmf_negatives": [4],
    "paper.gmf_dimensions": [8],
    "paper.mlp_dimensions": [8],
    "paper.gmf_rates": [0.2, 0.3],
    "paper.rates": [0.02, 0.03],
    "paper.l2": [0.001, 0.002],
    "paper.alphas": [0.3, 0.5],
    "paper.batch_size": 128,
    "paper.history": 4,
}


def settings(**changes: object) -> PaperSettings:
    return load_settings(overrides=SMALL | {f"paper.{k}": v for k, v in changes.items()}).paper


def tastes(seed: int = 1, swap: bool = False) -> Protocol:
    """200 users of four tastes over 120 items, 30 to a taste: each took nine of them, and a tenth is the
    test. Negatives are of the other tastes. ``swap`` exchanges the truth with the first negative.
    """
    rng = np.random.default_rng(seed)
    taken = np.array([1 + 30 * (user % 4) + rng.permutation(30)[:10] for user in range(USERS)])
    others = (
        np.array(
            [
                rng.permutation(np.setdiff1d(np.arange(120), 30 * (u % 4) + np.arange(30)))[:50]
                for u in range(USERS)
            ]
        )
        + 1
    )
    test, negatives = taken[:, 9].copy(), others.copy()
    if swap:
        test, negatives[:, 0] = others[:, 0], taken[:, 9]
    users = np.arange(1, USERS + 1)
    return Protocol(
        users=np.repeat(users, 9),
        items=taken[:, :9].ravel(),
        times=np.tile(np.arange(9.0), USERS),
        test_users=users,
        test_items=test,
        negatives=negatives,
        own_negatives=0,
        n_users=USERS + 1,
        n_items=121,
    )


def one_user(items: Sequence[int], times: Sequence[float]) -> Protocol:
    """User 1 with these items; item 9 is the test item, against 7 and 8."""
    n = len(items)
    return Protocol(
        np.ones(n, int),
        np.array(items),
        np.array(times, float),
        np.array([1]),
        np.array([9]),
        np.array([[7, 8]]),
        0,
        2,
        10,
    )


def rng() -> np.random.Generator:
    return np.random.default_rng(0)
