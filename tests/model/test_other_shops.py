"""Shops unlike the one that the settings were chosen on: the build is no worse than untrained rankers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.query import Query
from ensemble.reference import Reference
from export_scripts.build import build
from export_scripts.etl import etl
from export_scripts.receipts.shop import load_shop
from export_scripts.scorer.prior import fit_prior
from export_scripts.scorer.training_set import TrainingSet, collect, collect_training_sets, make_periods
from export_scripts.settings import load_settings
from export_scripts.snapshots.snapshot import snapshot, untrained_prior
from export_scripts.snapshots.splits import split_by_time
from operations.outputs import Outputs
from operations.records.contract import read_contract
from tests.building.shops import Shop, make_shop

WITHOUT_USER = ("popularity", "co-occurrence")  # rankers that do as well for somebody unknown


def shop_without(*columns: str) -> Callable[[Path, np.random.Generator], Shop]:
    def make(folder: Path, rng: np.random.Generator) -> Shop:
        tables = make_shop(folder, rng)
        lines = pd.read_csv(tables.transactions, dtype=str).drop(columns=list(columns))
        lines.to_csv(tables.transactions, index=False)
        return tables

    return make


def without_products(folder: Path, rng: np.random.Generator) -> Shop:
    tables = make_shop(folder, rng, baskets=2000)  # 400 give 119 questions: too few
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


def strange_ids(folder: Path, rng: np.random.Generator) -> Shop:
    """Every id and category holds commas and quotes, each category a line break, too."""
    tables = make_shop(folder, rng, users=15, items=30, baskets=150)
    for path in (tables.transactions, tables.products):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        for column in {"user_id", "basket_id", "item_id", "department"} & set(table):
            end = '",\n<b>' if column == "department" else '",<b>'
            table[column] = table[column].where(table[column] == "", 'Ä, "' + table[column] + end)
        table.to_csv(path, index=False)
    return tables


def with_lines(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path, np.random.Generator], Shop]:
    def make(folder: Path, rng: np.random.Generator) -> Shop:
        tables = make_shop(folder, rng, users=15, items=30, baskets=150)
        lines = pd.read_csv(tables.transactions, dtype=str, keep_default_na=False)
        change(lines).to_csv(tables.transactions, index=False)
        return tables

    return make


def with_a_bag(lines: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([lines, lines.drop_duplicates("basket_id").assign(item_id="bag", quantity=1)])


def with_returns(lines: pd.DataFrame) -> pd.DataFrame:
    return lines.assign(quantity=np.where(np.arange(len(lines)) % 3, 1, -1))


def of_three_items(lines: pd.DataFrame) -> pd.DataFrame:
    return lines.assign(item_id=(lines["item_id"].astype(int) % 3).astype(str))


def never_listed(folder: Path, rng: np.random.Generator) -> Shop:
    """The products table and the receipts have different ids."""
    tables = make_shop(folder, rng, users=15, items=30, baskets=150)
    products = pd.read_csv(tables.products, dtype=str)
    products.assign(item_id="new " + products["item_id"]).to_csv(tables.products, index=False)
    return tables


# How they are made, and settings.
ODD_SHOPS: dict[str, tuple[Callable[[Path, np.random.Generator], Shop], dict[str, str]]] = {
    "strange ids": (strange_ids, {}),
    "one item in every basket": (with_lines(with_a_bag), {}),
    "three items": (with_lines(of_three_items), {}),
    "one time for all": (with_lines(lambda lines: lines.assign(timestamp="2024-01-01T00:00:00")), {}),
    "returns": (with_lines(with_returns), {"etl.returns": "drop"}),
    "listed items never sold": (never_listed, {}),
    "everybody comes once": (with_lines(lambda lines: lines.assign(user_id=lines["basket_id"])), {}),
    "one customer": (with_lines(lambda lines: lines.assign(user_id="restaurant")), {}),
}


@pytest.mark.parametrize("name", ODD_SHOPS)
def test_odd_shops_are_built_and_answer(tmp_path: Path, name: str) -> None:
    """Each sold item alone, each user, and nobody get ids of the shop, finite scores, and none of the given
    items.
    """
    make, settings = ODD_SHOPS[name]
    given = make(tmp_path / "shop", np.random.default_rng(1)).overrides() | settings
    out = Outputs(tmp_path / "out")
    assert build(load_settings(overrides=given), out.root) == 1

    shop, reference = load_shop(out.data), Reference.load(out.run)
    sold = shop.catalog["item_id"].to_numpy()[np.unique(shop.items)]
    users = [user for user in pd.read_parquet(out.data / "users.parquet")["user_id"] if user]
    ask = reference.vocabulary.query
    queries = (
        [ask([item.encode()]) for item in sold] + [ask(user_id=user.encode()) for user in users] + [ask()]
    )
    answers = reference.recommend(queries)
    assert sum(query.unknown_items for query in queries) == 0
    assert (answers.item_ids[:, 0] != "").all()
    assert np.isfinite(answers.scores[answers.item_ids != ""]).all()
    assert set(answers.item_ids.ravel()) <= {*shop.catalog["item_id"], ""}
    assert all(item not in row for item, row in zip(sold, answers.item_ids, strict=False))


LAST_BITS = 0.015  # between trainings of such a small shop whose sums differ in their last bits


def at_most(group: dict[str, Any], measure: str) -> float:
    """The upper end of the measure's confidence interval."""
    return float(group["interval"][measure][1])


@pytest.mark.parametrize("measure", ["hr_at_10", "ndcg_at_10"])
def test_no_worse_than_the_best_simple_ranker(built: Outputs, measure: str) -> None:
    """The difference is within the noise of its own interval, for the known user and for nobody."""
    report = json.loads(built.metrics.read_text())
    simple = {name: ranker["known"][measure] for name, ranker in report["baselines"].items()}
    assert report["known"]["n"] > 0
    if not report["protocol"]["known_users"]:
        assert tuple(simple) == WITHOUT_USER  # the others would repeat these figures
    assert at_most(report["known"], measure) + LAST_BITS >= max(simple.values()), simple
    assert at_most(report["unknown"], measure) + LAST_BITS >= max(simple[n] for n in WITHOUT_USER), simple


def test_every_feature_is_a_number(built: Outputs) -> None:
    """The queries are real baskets with their user, a basket without a user, and an empty basket."""
    shop, sampler = load_shop(built.data), Reference.load(built.run).sampler
    queries = [
        Query(user_row=int(shop.users[b]), basket=shop.basket(b).tolist()[1:], now=int(shop.times[b]))
        for b in range(shop.n_baskets)
    ]
    candidates = sampler.sample([*queries, Query(), Query(basket=[1]), Query(user_row=shop.n_users - 1)])
    assert np.isfinite(candidates.features).all()
    assert (candidates.rows[:, 0] > 0).all()  # whoever asks gets an answer


def test_training_asks_without_the_user_too(built: Outputs) -> None:
    """A fifth of the queries loses user and history; otherwise unknown users get worse answers than
    co-occurrence gives.
    """
    settings = load_settings()
    shop, contract = load_shop(built.data), read_contract()
    split = split_by_time(shop, settings.splits)
    arrays = snapshot(shop, split.training, settings)
    splits = make_periods(shop, split, arrays, settings)
    learnt = collect_training_sets(shop, splits, settings, contract)[0]
    history = learnt.features[:, :, FEATURES.index("history_size")].max(1)
    assert (history[learnt.users == 0] == 0).all()
    # The same queries, nobody blanked: some have no user to begin with.
    plain = collect(shop, splits.training, settings, contract, "plain", np.random.default_rng(0))
    with_user = (plain.users > 0).sum()
    if with_user < 30:
        pytest.skip("too few queries with a user to tell a fifth of them")
    assert (learnt.users > 0).sum() < with_user * (1 - settings.train.user_dropout / 2)


def test_a_tiny_shop_stays_at_the_blend(tmp_path: Path) -> None:
    """The six shops have some 40 queries each: 26 weights fitted freely to so few lose what the blend knows.
    The test measures on the validation period, with the user and without.
    """
    fitted, blend, n = 0.0, 0.0, 0
    for seed in range(6):
        for weights, untrained, examples in tiny_priors(tmp_path / str(seed), np.random.default_rng(seed)):
            fitted += ndcg_sum(examples, weights)
            blend += ndcg_sum(examples, untrained)
            n += examples.n_queries
    assert n > 150
    assert fitted / n > blend / n - 0.01


def tiny_priors(
    folder: Path, rng: np.random.Generator
) -> list[tuple[NDArray[np.float32], NDArray[np.float32], TrainingSet]]:
    """The fitted and the untrained prior, and validation queries: with the user, then without."""
    settings = load_settings(overrides=make_shop(folder, rng, users=15, items=40, baskets=120).overrides())
    shop, contract = load_shop(etl(settings, folder / "out")), read_contract()
    split = split_by_time(shop, settings.splits)
    arrays = snapshot(shop, split.training, settings)
    splits = make_periods(shop, split, arrays, settings)
    prior, _ = fit_prior(shop, splits.training, settings, contract)
    return [
        (
            prior,
            untrained_prior(),
            collect(shop, [splits.validation], settings, contract, "", rng, anonymous=share),
        )
        for share in (0.0, 1.0)
    ]


def ndcg_sum(examples: TrainingSet, weights: NDArray[np.float32]) -> float:
    """NDCG@10 of a linear score, summed over the queries."""
    scores = np.where(examples.rows > 0, examples.features.astype(np.float32) @ weights, -np.inf)
    ranks = (scores > np.take_along_axis(scores, examples.target[:, None], 1)).sum(1)
    return float((1 / np.log2(ranks[ranks < 10] + 2)).sum())
