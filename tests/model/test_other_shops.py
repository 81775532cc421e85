"""Shops unlike the one the settings were chosen on: built by default, no worse than what is not trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ensemble.candidate_sampler.query import Query
from ensemble.reference import Reference
from export_scripts.build import Outputs, build
from export_scripts.settings import load_settings
from export_scripts.shop import load_shop
from tests.shops import Shop, make_shop

WITHOUT_USER = ("popularity", "co-occurrence")  # rankers that do as well for somebody unknown


def shop_without(*columns: str) -> Callable[[Path, np.random.Generator], Shop]:
    def make(folder: Path, rng: np.random.Generator) -> Shop:
        tables = make_shop(folder, rng)
        lines = pd.read_csv(tables.transactions, dtype=str).drop(columns=list(columns))
        lines.to_csv(tables.transactions, index=False)
        return tables

    return make


def without_products(folder: Path, rng: np.random.Generator) -> Shop:
    tables = make_shop(folder, rng)
    tables.products.unlink()
    return tables


SHOPS: dict[str, Callable[[Path, np.random.Generator], Shop]] = {
    "no users": shop_without("user_id"),
    "no time stamps": shop_without("timestamp"),
    "no categories": without_products,
    "few repeats": lambda folder, rng: make_shop(folder, rng, users=300),  # most come once or twice
    "tiny": lambda folder, rng: make_shop(folder, rng, users=5, items=12, baskets=40),
}


@pytest.fixture(scope="module", params=SHOPS)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Outputs:
    tables = SHOPS[request.param](tmp_path_factory.mktemp("shop"), np.random.default_rng(1))
    given = {name: path for name, path in tables.overrides().items() if Path(str(path)).exists()}
    out = Outputs(tmp_path_factory.mktemp("out"))
    assert build(load_settings(overrides=given), out.root) == 1
    return out


def at_most(group: dict[str, Any], measure: str) -> float:
    """The upper end of what the measure may be in truth."""
    return float(group["interval"][measure][1])


@pytest.mark.parametrize("measure", ["hr_at_10", "ndcg_at_10"])
def test_no_worse_than_the_best_simple_ranker(built: Outputs, measure: str) -> None:
    """Beyond the noise of its own interval, for the known user and for nobody."""
    report = json.loads(built.metrics.read_text())
    simple = {name: ranker["known"][measure] for name, ranker in report["baselines"].items()}
    assert report["known"]["n"] > 0
    assert at_most(report["known"], measure) >= max(simple.values()), simple
    assert at_most(report["unknown"], measure) >= max(simple[name] for name in WITHOUT_USER), simple


def test_every_feature_is_a_number(built: Outputs) -> None:
    """For real baskets with their user, for nobody, and for an empty basket."""
    shop, sampler = load_shop(built.data), Reference.load(built.run).sampler
    queries = [
        Query(user_row=int(shop.users[b]), basket=shop.basket(b).tolist()[1:], now=int(shop.times[b]))
        for b in range(shop.n_baskets)
    ]
    candidates = sampler.sample([*queries, Query(), Query(basket=[1]), Query(user_row=shop.n_users - 1)])
    assert np.isfinite(candidates.features).all()
    assert (candidates.rows[:, 0] > 0).all()  # whoever asks gets an answer
