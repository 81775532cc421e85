"""The sampler on whole snapshots finds planted tastes, whatever the shop does not record."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ensemble.candidate_sampler.arrays import load_arrays, load_limits
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import SIMILAR, TOGETHER, USUAL
from export_scripts.etl import etl
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots.snapshot import save_snapshot, snapshot
from export_scripts.snapshots.splits import split_by_time
from operations.records.contract import read_contract
from tests.building.sampled_shops import plain_kernels
from tests.building.shops import make_shop
from tests.building.world import features_of, proposed, shop_of

CHEAP = {
    "retrieval.epochs": 30,
    "retrieval.batch_size": 128,
    "retrieval.uniform_negatives": 40,
    "retrieval.dimensions": 16,
}


def released(shop: Shop, settings: Settings, folder: Path, capacity: int = 20) -> CandidateSampler:
    """Arrays as a release has them: saved, and mapped again."""
    folder.mkdir()
    save_snapshot(snapshot(shop, shop.n_baskets, settings), settings, read_contract(), folder)
    return CandidateSampler(load_arrays(folder), load_limits(folder) | {"capacity": capacity, "fill": 20})


def best(sampler: CandidateSampler, query: Query, feature: str) -> int:
    """The candidate with the largest value of a feature."""
    candidates = sampler.sample([query])
    return max(proposed(candidates), key=lambda row: features_of(candidates, row)[feature])


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> CandidateSampler:
    """80 items, 40 users. User u buys item u every second time, 71 goes with 70, the rest is chance. Users up
    to 20 buy among 1 … 30 and the others among 31 … 60: two crowds for the tower to tell apart.
    """
    rng = np.random.default_rng(0)
    receipts = []
    for day in range(2_000):
        user = int(rng.integers(1, 41))
        crowd = rng.integers(1, 31, 3) + (30 if user > 20 else 0)
        usual = [user] if rng.random() < 0.5 else []
        pair = [70, 71] if rng.random() < 0.05 else [int(rng.integers(72, 81))]
        receipts.append((user, day / 10, [*crowd.tolist(), *usual, *pair]))
    settings = load_settings(overrides=CHEAP | {"sampler.similar": 150})
    return released(
        shop_of(receipts, items=80), settings, tmp_path_factory.mktemp("planted") / "arrays", capacity=80
    )


@pytest.mark.parametrize("user", [3, 17, 25, 38])
def test_a_users_favourite_is_found(planted: CandidateSampler, user: int) -> None:
    assert best(planted, Query(user_row=user), "recency_60") == user
    assert proposed(planted.sample([Query(user_row=user)]))[user] & USUAL


def test_partners_are_found(planted: CandidateSampler) -> None:
    assert best(planted, Query(basket=[70]), "cosine_max") == 71
    assert proposed(planted.sample([Query(basket=[70])]))[71] & TOGETHER


@pytest.mark.parametrize(
    ("basket", "crowd"), [([2, 9, 14, 28], range(1, 31)), ([33, 45, 52, 59], range(31, 61))]
)
def test_the_tower_finds_the_crowd(planted: CandidateSampler, basket: list[int], crowd: range) -> None:
    """Nine of the ten items nearest to four items of a crowd are of that crowd; items for everybody are left
    out.
    """
    candidates = planted.sample([Query(basket=basket)])
    fit = {
        row: features_of(candidates, row)["retrieval_basket"]
        for row, bits in proposed(candidates).items()
        if bits & SIMILAR and row <= 60
    }
    nearest = sorted(fit, key=fit.__getitem__, reverse=True)[:10]
    assert sum(row in crowd for row in nearest) >= 9


@pytest.mark.parametrize(("basket", "fitting", "other"), [([1, 4], 21, 22), ([11, 14], 22, 21)])
def test_an_item_never_sold_comes_with_its_category(
    basket: list[int], fitting: int, other: int, tmp_path: Path
) -> None:
    """Items 1 … 10 and 21 are of kind a, 11 … 20 and 22 of kind b, never in one basket. Items 21 and 22 are
    new.
    """
    rng = np.random.default_rng(2)
    receipts = [(0, day, (rng.permutation(10)[:4] + 1 + 10 * (day % 2)).tolist()) for day in range(1_000)]
    shop = shop_of(receipts, items=22, categories={"kind": [*"a" * 10, *"b" * 10, "a", "b"]})
    settings = load_settings(overrides=CHEAP | {"sampler.cold": 1, "sampler.per_category": 1})
    candidates = proposed(released(shop, settings, tmp_path / "arrays").sample([Query(basket=basket)]))
    assert candidates[fitting] & SIMILAR
    assert not candidates.get(other, 0) & SIMILAR


@pytest.mark.parametrize("lacking", ["nothing", "users", "times", "products", "one column"])
def test_a_shop_that_records_less_gets_a_full_list(lacking: str, tmp_path: Path) -> None:
    """The tables of the shop give a full list for every user and for nobody, by one compiled kernel."""
    rng = np.random.default_rng(1)
    tables = make_shop(tmp_path / "shop", rng, baskets=200)
    dropped = {"users": ["user_id"], "times": ["timestamp"]}.get(lacking, [])
    pd.read_csv(tables.transactions, dtype=str).drop(columns=dropped).to_csv(tables.transactions, index=False)
    if lacking == "one column":
        pd.read_csv(tables.products, dtype=str).drop(columns="brand").to_csv(tables.products, index=False)
    overrides = {"data.transactions": tables.transactions, "sampler.min_support": 3, **CHEAP}
    if lacking != "products":
        overrides["data.products"] = tables.products
    settings = load_settings(overrides=overrides)
    shop = load_shop(etl(settings, tmp_path / "out"))
    split = split_by_time(shop, settings.splits)
    assert 0 < split.training < split.validation < split.test < split.end
    sampler = released(shop, settings, tmp_path / "arrays")
    queries = [Query(), Query(user_row=shop.n_users - 1, basket=shop.basket(5).tolist()), Query(basket=[1])]
    candidates = sampler.sample(queries)
    assert (candidates.rows > 0).all()
    assert np.isfinite(candidates.features).all()
    assert plain_kernels() == 1
