"""The report about the sampler agrees with the sampler, and our ranking is measured as it is served."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.reference import Reference
from export_scripts.engines.local import ThisProcess
from export_scripts.etl import etl
from export_scripts.quality import losses
from export_scripts.quality.metrics import TOP
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import QueryBatch
from export_scripts.quality.served import served_ranker
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.fitting import new_model
from export_scripts.scorer.fold import fold
from export_scripts.scorer.graph import build_graph
from export_scripts.scorer.ncf import NCF
from export_scripts.settings import Settings, load_settings
from export_scripts.snapshots.snapshot import limits, recommendable, snapshot, untrained_prior
from export_scripts.snapshots.splits import as_queries, hide_items
from operations.records.contract import Contract, read_contract
from tests.building.world import no_queries

ITEMS, FEW = 120, 30  # recommendable items, candidates


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Random receipts of 40 users, with small shares per source, so that lists differ."""
    rng = np.random.default_rng(3)
    path = tmp_path_factory.mktemp("shop") / "t.csv"
    lines = [
        (f"u{basket % 40}", f"b{basket}", f"i{item}", pd.Timestamp("2024-01-01") + pd.Timedelta(hours=basket))
        for basket in range(600)
        for item in rng.choice(ITEMS, 4, replace=False)
    ]
    table = pd.DataFrame(lines, columns=["user_id", "basket_id", "item_id", "timestamp"])
    table.to_csv(path, index=False)
    few = {"sampler.similar": 10, "sampler.popular": 10, "sampler.fill": FEW}
    cheap = {"retrieval.epochs": 1, "retrieval.dimensions": 4, "evaluate.full_catalog": 40}
    return load_settings(overrides={"data.transactions": path} | few | cheap)


@pytest.fixture(scope="module")
def shop(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return load_shop(etl(settings, tmp_path_factory.mktemp("out")))


@pytest.fixture(scope="module")
def arrays(shop: Shop, settings: Settings) -> SamplerArrays:
    return snapshot(shop, 500, settings)


@pytest.fixture(scope="module")
def contract() -> Contract:
    return replace(read_contract(), candidates=FEW)


@pytest.fixture(scope="module")
def questions(shop: Shop, arrays: SamplerArrays, settings: Settings, contract: Contract) -> Questions:
    hidden = hide_items(shop, 500, 600, recommendable(arrays), 3, np.random.default_rng(0))
    return Questions(shop, hidden, CandidateSampler(arrays, limits(settings, contract)))


@pytest.fixture(scope="module")
def model(arrays: SamplerArrays, settings: Settings) -> NCF:
    """A model with random weights, which gives the candidates any order."""
    model = new_model(arrays, no_queries(), untrained_prior(), settings.train)
    model.wide.weight.data.normal_()
    model.out.weight.data.normal_()
    return model.eval()


def test_the_first_places_are_those_of_the_served_graph(
    questions: Questions, model: NCF, shop: Shop, contract: Contract
) -> None:
    """For MRR a graph answers with all candidates. It ranks them as the one that answers with K."""
    ids = shop.catalog["item_id"].tolist()
    whole = served_ranker(model, ids, questions.sampler, contract)
    served = Reference(questions.sampler, build_graph(fold(model), ids, contract).SerializeToString())
    queries = as_queries(shop, questions.hidden)
    ranked, expected = whole.reference.recommend(queries), served.recommend(queries)
    assert ranked.item_ids.shape[1] == FEW > contract.answers
    np.testing.assert_array_equal(ranked.item_ids[:, : contract.answers], expected.item_ids)
    np.testing.assert_array_equal(ranked.scores[:, : contract.answers], expected.scores)


def test_ours_is_placed_by_the_whole_list(
    questions: Questions, model: NCF, shop: Shop, contract: Contract
) -> None:
    """Rank, list and probabilities agree with one another, for items below the served list's end too."""
    served = served_ranker(model, shop.catalog["item_id"].tolist(), questions.sampler, contract)
    queries = as_queries(shop, questions.hidden)
    candidates = questions.sampler.sample(queries)
    placed = served.place(QueryBatch(queries, questions.hidden.items, candidates))["cesta"]
    hit = placed.top == questions.hidden.items[:, None]
    np.testing.assert_array_equal(hit.any(1), placed.ranks < TOP)
    np.testing.assert_array_equal(hit.argmax(1)[hit.any(1)], placed.ranks[hit.any(1)])
    is_candidate = (candidates.rows == questions.hidden.items[:, None]).any(1)
    np.testing.assert_array_equal(placed.ranks < FEW, is_candidate)
    assert ((placed.ranks >= contract.answers) & is_candidate).any()
    assert placed.chances is not None
    assert (np.diff(placed.chances, axis=1) <= 0).all()
    assert (placed.chances.sum(1) < 1).all()


@pytest.mark.parametrize("n", [5, 20, 40])
def test_recall_at_n_is_that_of_a_sampler_with_n_places(
    n: int,
    questions: Questions,
    arrays: SamplerArrays,
    settings: Settings,
    contract: Contract,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not only that of a longer list cut off."""
    monkeypatch.setattr(losses, "RECALL_AT", (n,))
    repeat = np.arange(len(questions.hidden)) % 2 == 0
    recall = losses.measure_recall(questions, arrays, settings, contract, repeat, ThisProcess())
    few = CandidateSampler(arrays, limits(settings, replace(contract, candidates=n)))
    candidates = few.sample(as_queries(questions.shop, questions.hidden))
    hit = candidates.rows == questions.hidden.items[:, None]
    expected = {"recall": hit.any(1), "repeat": hit.any(1)[repeat], "explore": hit.any(1)[~repeat]}
    assert recall["at"][str(n)] == {name: round(float(v.mean()), 4) for name, v in expected.items()}
    bits = np.where(hit, candidates.sources, 0).sum(1)
    assert recall["by_source"]["together"]["at"][str(n)]["recall"] == round(float((bits & 2 > 0).mean()), 4)


def test_what_a_source_finds_alone_no_other_finds(
    questions: Questions, arrays: SamplerArrays, settings: Settings, contract: Contract
) -> None:
    """The shares that one source found alone and that several found together add up to the recall."""
    repeat = np.zeros(len(questions.hidden), bool)
    recall = losses.measure_recall(questions, arrays, settings, contract, repeat, ThisProcess())
    shares = [source["alone"]["recall"] for source in recall["by_source"].values()]
    assert 0 < sum(shares) <= recall["recall"] + 1e-3
    for source in recall["by_source"].values():
        assert source["alone"]["recall"] <= source["recall"] <= recall["recall"]
    assert recall["repeat"] is None  # nobody there to have bought anything


def test_the_whole_catalog_is_scored(
    questions: Questions, arrays: SamplerArrays, settings: Settings, contract: Contract
) -> None:
    """It scores every recommendable item outside the basket, whatever the sources propose."""
    everything = losses._whole_catalog_sampler(arrays, settings, contract)
    queries = as_queries(questions.shop, questions.hidden)[:20]
    rows = everything.sample(queries).rows
    for query, scored in zip(queries, rows, strict=True):
        assert set(arrays.popularity.order.tolist()) - set(query.basket) <= set(scored.tolist())


def test_the_loss_is_the_share_of_hits_that_the_sampler_costs(
    questions: Questions,
    arrays: SamplerArrays,
    model: NCF,
    settings: Settings,
    contract: Contract,
) -> None:
    """A ranker that missed everything lost all; both rank the same queries."""
    missed = np.full(len(questions.hidden), 99.0)
    report = losses.measure_full_catalog(
        questions, arrays, model, settings, contract, missed, missed, ThisProcess()
    )
    assert report["queries"] == 40
    assert report["known"]["loss"] == 1
    assert report["known"]["hr_at_10"] > 0
    assert report["known"]["sampled_hr_at_10"] == 0
    assert report["known"]["ndcg_loss"] == 1
    assert 0 < report["known"]["ndcg_at_10"] <= report["known"]["hr_at_10"]


def test_a_lower_place_costs_ndcg_and_no_hit() -> None:
    """Both rankers hit one of two queries at the top; one has the other query at place 3 instead of 1:
    1/log2(4) of 1.
    """
    compared = losses._compare(np.array([0.0, 2.0]), np.array([0.0, 0.0]))
    assert (compared["hr_at_10"], compared["sampled_hr_at_10"], compared["loss"]) == (1, 1, 0)
    assert (compared["ndcg_at_10"], compared["sampled_ndcg_at_10"], compared["ndcg_loss"]) == (1, 0.75, 0.25)


def test_no_queries_lose_nothing(
    questions: Questions,
    arrays: SamplerArrays,
    model: NCF,
    settings: Settings,
    contract: Contract,
) -> None:
    none = replace(
        questions, hidden=replace(questions.hidden, baskets=np.zeros(0, int), items=np.zeros(0, int))
    )
    assert (
        losses.measure_recall(none, arrays, settings, contract, np.zeros(0, bool), ThisProcess())["recall"]
        is None
    )
    nobody = np.zeros(0)
    report = losses.measure_full_catalog(
        none, arrays, model, settings, contract, nobody, nobody, ThisProcess()
    )
    assert report["known"] == {
        "hr_at_10": None,
        "sampled_hr_at_10": None,
        "loss": None,
        "ndcg_at_10": None,
        "sampled_ndcg_at_10": None,
        "ndcg_loss": None,
    }
