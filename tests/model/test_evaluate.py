"""What evaluate reports, and that it does not look into the future."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from export_scripts import evaluate
from export_scripts.etl import etl
from export_scripts.quality import rivals
from export_scripts.quality.ease.ranker import EaseOnReceipts
from export_scripts.receipts.shop import load_shop
from export_scripts.scorer.checkpoint import FittedScorer, save_checkpoint
from export_scripts.scorer.fitting import fit, new_model
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots.retrieval.training import new_tower
from export_scripts.snapshots.snapshot import snapshot, untrained_prior
from operations.errors import CestaError
from tests.building.world import no_queries

ITEMS, BASKETS, SIZE = 200, 1_200, 4
CHANCE = 10 / (ITEMS - SIZE + 1)
GROUPS = {"hr_at_10", "ndcg_at_10", "mrr", "interval", "n"}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A shop of random receipts, whose past tells nothing about the future."""
    rng = np.random.default_rng(5)
    path = tmp_path_factory.mktemp("random") / "t.csv"
    start = pd.Timestamp("2024-01-01")
    lines = [
        (f"u{rng.integers(60)}", f"b{basket}", f"i{item:03d}", start + pd.Timedelta(hours=2 * basket))
        for basket in range(BASKETS)
        for item in rng.choice(ITEMS, SIZE, replace=False)
    ]
    table = pd.DataFrame(lines, columns=["user_id", "basket_id", "item_id", "timestamp"])
    table["user_id"] = table.groupby("basket_id")["user_id"].transform("first")
    table.to_csv(path, index=False)
    cheap = {
        "retrieval.epochs": 1,
        "retrieval.dimensions": 4,
        "evaluate.bootstrap": 20,
        "evaluate.full_catalog": 100,
    }
    return load_settings(overrides={"data.transactions": path} | cheap)


@pytest.fixture(scope="module")
def prepared(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data/ and a checkpoint with the untrained blend, which relies on co-occurrence."""
    folder = tmp_path_factory.mktemp("out")
    shop = load_shop(etl(settings, folder))
    prior = untrained_prior()
    empty = no_queries()
    arrays = snapshot(shop, shop.n_baskets, settings)
    model, _ = fit(new_model(arrays, empty, prior, settings.train), empty, empty, settings.train)
    tower = new_tower(shop, arrays.categories.of_item, settings)
    save_checkpoint(folder / "checkpoint.pt", FittedScorer(model, prior), shop, settings, tower)
    return folder


def measured(settings: Settings, prepared: Path, name: str) -> dict[str, Any]:
    path = prepared / name
    evaluate.evaluate(settings, prepared / "data", prepared / "checkpoint.pt", path)
    return json.loads(path.read_text())  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def report(settings: Settings, prepared: Path) -> dict[str, Any]:
    return measured(settings, prepared, "metrics.json")


def test_random_receipts_give_chance(report: dict[str, Any]) -> None:
    """Chance is 10 of 197 items. A result above the noise of some 300 queries would be a leak."""
    n = report["known"]["n"]
    assert n > 200
    noise = 3 * np.sqrt(CHANCE * (1 - CHANCE) / n)
    measured = [report["known"], report["unknown"], *(b["known"] for b in report["baselines"].values())]
    measured.append(report["rivals"][EaseOnReceipts.NAME]["known"])
    for group in measured:
        assert abs(group["hr_at_10"] - CHANCE) < noise


@pytest.mark.parametrize("workers", [2, 4])
def test_any_number_of_processes_measures_the_same(
    settings: Settings, prepared: Path, report: dict[str, Any], workers: int
) -> None:
    """metrics.json has the same bytes: the first fixture's are from one process."""
    several = settings.model_copy(update={"engine": settings.engine.model_copy(update={"workers": workers})})
    measured(several, prepared, f"{workers}.json")
    assert (prepared / f"{workers}.json").read_bytes() == (prepared / "metrics.json").read_bytes()


def test_a_planted_leak_is_refused(
    settings: Settings, prepared: Path, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counts to the end of the data hold the very basket that co-occurrence is asked about."""
    leaky = lambda shop, end, *rest, **named: snapshot(shop, shop.n_baskets, *rest, **named)  # noqa: E731
    monkeypatch.setattr(evaluate, "snapshot", leaky)
    with pytest.raises(CestaError, match="leak: popularity counts"):
        measured(settings, prepared, "leaked.json")
    assert not (prepared / "leaked.json").exists()
    monkeypatch.setattr(evaluate, "check_leaks", lambda *_: None)  # the figures would have shown it, too
    leaked = measured(settings, prepared, "leaked.json")
    assert leaked["baselines"]["co-occurrence"]["known"]["hr_at_10"] > 5 * CHANCE
    assert leaked["unknown"]["hr_at_10"] > 3 * CHANCE


def test_the_report_is_complete(report: dict[str, Any]) -> None:
    """Every group has its three measures, their intervals and its number of queries."""
    for name in ("known", "unknown", "repeat", "explore"):
        assert report[name].keys() == GROUPS
    assert report["curve"] == []  # of a checkpoint that was not trained
    assert report["by_basket_size"].keys() == {"1", "2-4", "5-9", "10+"}
    assert report["by_support"].keys() == {"5-19", "20-99", "100+"}
    for groups in (report["by_basket_size"], report["by_support"]):
        assert all(group.keys() == GROUPS for group in groups.values())
        assert sum(group["n"] for group in groups.values()) == report["known"]["n"]
    for ranker in (report, *report["baselines"].values()):
        for name in ("known", "unknown", "repeat", "explore"):
            assert ranker[name].keys() == GROUPS
        assert ranker["lists"].keys() == {"coverage", "effective_items", "gini", "novelty", "repeats"}
    for name in ("all", "repeat", "explore", "sold", "never_sold"):
        assert report["cold"][name].keys() == GROUPS | {"recall"}
        assert report["cold"][name]["n"] == 0  # without categories nothing has content
    assert report["repeat"]["n"] + report["explore"]["n"] == report["known"]["n"]
    assert report["protocol"]["ranked_items"] == ITEMS


def test_new_items_are_asked_with_the_customer_and_without(report: dict[str, Any]) -> None:
    """All rankers answer the queries about new items. Popularity knows nobody: without what the customer
    bought before, its lists are the same in both, and find at least what they found with it.
    """
    rankers = {"cesta": report, **report["baselines"], **report["rivals"]}
    assert report["new_only"].keys() == rankers.keys()
    for name, measured in report["new_only"].items():
        for kind in ("known", "unknown"):
            assert measured[kind].keys() == GROUPS
            assert measured[kind]["n"] == report["explore"]["n"]
            assert measured[kind]["hr_at_10"] >= rankers[name]["explore"]["hr_at_10"] or kind == "unknown"
    popularity = report["new_only"]["popularity"]
    assert popularity["known"] == popularity["unknown"]
    assert popularity["customer_adds"]["hr_at_10"] == {"difference": 0.0, "interval": [0.0, 0.0]}


def test_the_best_other_ranker_is_named(report: dict[str, Any]) -> None:
    """Cesta's value is its own figure: the other's and the difference."""
    others = {**report["baselines"], **report["rivals"]}
    for kind in ("known", "unknown", "repeat", "explore"):
        best = report["best_other"][kind]["hr_at_10"]
        assert best["value"] == max(other[kind]["hr_at_10"] for other in others.values())
        assert best["value"] + best["difference"] == pytest.approx(report[kind]["hr_at_10"], abs=2e-4)


def test_intervals_hold_their_means(report: dict[str, Any]) -> None:
    for name in ("hr_at_10", "ndcg_at_10", "mrr"):
        low, high = report["known"]["interval"][name]
        assert low <= report["known"][name] <= high


def test_the_same_checkpoint_gives_the_same_report(
    settings: Settings, prepared: Path, report: dict[str, Any]
) -> None:
    """All digits agree, the bootstrap's included."""
    assert measured(settings, prepared, "again.json") == report


def test_rivals_are_measured_alike_and_missing_ones_named(
    settings: Settings, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random receipts give rivals chance, too. A rival without its package has a row that says how to install
    it.
    """
    monkeypatch.setattr(rivals, "_installed", lambda package: not package)
    path = prepared / "all.json"
    data, checkpoint = prepared / "data", prepared / "checkpoint.pt"
    evaluate.evaluate(settings, data, checkpoint, path, rivals=True)
    report = json.loads(path.read_text())
    assert report["rivals"].keys() == {EaseOnReceipts.NAME, *rivals.NEEDS}
    for name, package in rivals.NEEDS.items():
        if package:
            assert report["rivals"][name] == {"note": rivals.NOT_INSTALLED}
        else:
            assert report["rivals"][name]["known"]["hr_at_10"] < 3 * CHANCE
            assert report["rivals"][name]["known"].keys() == GROUPS
