"""Measure the served chain on the test period beside other rankers, by the test-month protocol.

Counts and retrieval tower end where the test period begins, and the scorer was trained before it. The chain
is that of ``ensemble/reference.py``: the sampler's arrays and the ONNX graph, as Triton runs them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ensemble.candidate_sampler.arrays import SamplerArrays
from export_scripts.durations import stage
from export_scripts.engines.engine import open_engine
from export_scripts.engines.interface import Engine
from export_scripts.engines.local import ThisProcess
from export_scripts.quality import baselines, report
from export_scripts.quality.against.comparison import Candidate, compare
from export_scripts.quality.cold import hide_cold, measure_cold_items
from export_scripts.quality.ease.fitting import fit_ease_on_receipts
from export_scripts.quality.ease.ranker import EaseOnReceipts
from export_scripts.quality.frontier import measure_frontier, values_around
from export_scripts.quality.groups import Groups
from export_scripts.quality.losses import measure_full_catalog, measure_recall
from export_scripts.quality.metrics import calibration
from export_scripts.quality.paired import compare_with_best, measure_new_only
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import Ranker, ServedRanker, UntrainedRankers
from export_scripts.quality.results import (
    MeasuredRival,
    Metrics,
    MissingRival,
    ProtocolRecord,
    RankerResult,
)
from export_scripts.quality.rivals import Rival, train_rivals
from export_scripts.quality.served import served_ranker
from export_scripts.quality.stores import measure_stores
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.checkpoint import load_checkpoint, load_chosen_explore, load_curve, load_tower
from export_scripts.scorer.explore import explore_of
from export_scripts.settings import Settings
from export_scripts.snapshots import partials
from export_scripts.snapshots.leaks import check_leaks
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.retrieval.ranks import continue_in_parallel
from export_scripts.snapshots.snapshot import recommendable, sampler_of, snapshot
from export_scripts.snapshots.splits import Split, hide_items, split_by_time
from operations.records import file_record
from operations.records.atomic import write_file
from operations.records.contract import Contract, read_contract
from operations.releases.stores.store import Repository

BASKET_SIZES: Final = {"1": (1, 1), "2-4": (2, 4), "5-9": (5, 9), "10+": (10, 2**31)}
SUPPORTS: Final = {"5-19": (5, 19), "20-99": (20, 99), "100+": (100, 2**31)}  # baskets before the period
NOTE: Final = (  # part of metrics.json, which stays the same to the last byte
    "One item of a test basket is hidden and the rest asks; all recommendable items are ranked. Ours ranks "
    "the sampler's candidates: HR and NDCG are those of the served list, MRR is that of all candidates in "
    "the scorer's order, and an item that is no candidate counts 0."
)


@stage("evaluate")
def evaluate(
    settings: Settings,
    data: Path,
    checkpoint: Path,
    metrics: Path,
    rivals: bool = False,
    max_queries: int | None = None,
    against: Repository | None = None,
) -> Path:
    """Measure the checkpoint on the test period; write ``metrics`` (json), and report.html beside it.

    With ``rivals``, models of other libraries are trained and measured too, which takes far longer.
    ``max_queries`` lowers evaluate.queries. The active release of ``against`` gets the newest questions, too.
    """
    if max_queries is not None:
        settings = _limit_queries(settings, max_queries)
    with open_engine(settings.engine) as engine:
        content = _measure(settings, data, checkpoint, rivals, engine, against)
    write_file(metrics, (json.dumps(content, indent=2) + "\n").encode())
    write_file(metrics.with_name(report.NAME), report.html(content).encode())
    return metrics


def _measure(
    settings: Settings,
    data: Path,
    checkpoint: Path,
    rivals: bool,
    engine: Engine,
    against: Repository | None,
) -> Metrics:
    shop, contract = load_shop(data), read_contract()
    model, prior = load_checkpoint(checkpoint, shop, settings)
    split = split_by_time(shop, settings.splits)
    counted = PartialCounts(shop, settings.sampler, checkpoint.parent / partials.FOLDER, engine)
    trained = load_tower(checkpoint)
    tower = continue_in_parallel(trained, shop, split.test, settings, engine)
    arrays = snapshot(shop, split.test, settings, prior, partials=counted, tower=tower)
    check_leaks(shop, arrays, split.test, settings)
    rng = np.random.default_rng(settings.train.seed)
    rankable, per_basket = recommendable(arrays), settings.splits.hidden_per_basket
    hidden = hide_items(shop, split.test, split.end, rankable, per_basket, rng)
    hidden = hidden.sample(settings.evaluate.queries, rng)
    cold = hide_cold(shop, arrays, split.test, split.end, settings, rng)
    sampler = sampler_of(arrays, settings, contract)
    chosen = load_chosen_explore(checkpoint)
    explore = explore_of(settings.ranking.explore, chosen)
    moves = [value - explore for value in values_around(explore, chosen)]
    served = served_ranker(model, shop.catalog["item_id"].tolist(), sampler, contract, moves=moves)
    others, missing = train_rivals(shop, split, arrays, sampler, settings, contract) if rivals else ([], {})
    groups = Groups.of(shop, arrays, hidden, split.test, settings)
    simple = tuple(baselines.RANKERS) if groups.named.any() else baselines.WITHOUT_USERS
    ease = fit_ease_on_receipts(shop, split, arrays, counted, settings)
    rankers: list[Ranker] = [served, UntrainedRankers(arrays, simple), ease, *others]
    questions = Questions(shop, hidden, sampler, rankers)
    asked = ThisProcess() if others else engine  # rivals hold functions that only this process has
    with_users = questions.rank(asked, True, "evaluate")
    without_users = questions.rank(asked, False, "no user")
    known, unknown = with_users[ServedRanker.NAME], without_users[ServedRanker.NAME]
    assert known.chances is not None  # ServedRanker always predicts probabilities

    candidate = Candidate(model, prior, trained, checkpoint.parent / partials.FOLDER)
    compared = against and compare(against, shop, split, candidate, settings, contract, engine)

    def result(name: str) -> RankerResult:
        return groups.summarise_ranker(with_users[name], without_users[name])

    return {
        "checkpoint": file_record.sha256(checkpoint),  # export refuses the metrics of another checkpoint
        **result(ServedRanker.NAME),
        "by_basket_size": groups.summarise_bins(known.ranks, groups.sizes, BASKET_SIZES),
        "by_support": groups.summarise_bins(known.ranks, groups.support[hidden.items], SUPPORTS),
        "cold": measure_cold_items(shop, cold, served, sampler, split.test, settings, engine),
        "candidates": measure_recall(questions, arrays, settings, contract, groups.repeat, engine),
        "full_catalog": measure_full_catalog(
            questions, arrays, model, settings, contract, known.ranks, unknown.ranks, engine
        ),
        "curve": load_curve(checkpoint).epochs,
        "calibration": calibration(known.chances, known.ranks),
        "baselines": {name: result(name) for name in simple},
        "rivals": _describe_rivals([ease, *others], missing, result),
        "new_only": measure_new_only(groups, with_users, without_users),
        "best_other": compare_with_best(groups, with_users, without_users),
        "frontier": measure_frontier(groups, known, explore, chosen),
        **measure_stores(questions, served, known, split.test, groups, engine),
        "protocol": _describe_protocol(shop, split, arrays, groups, contract),
        "against": compared.model_dump(mode="json", exclude_unset=True) if compared else None,
    }


def _describe_rivals(
    rivals: Sequence[EaseOnReceipts | Rival],
    missing: Mapping[str, str],
    result: Callable[[str], RankerResult],
) -> dict[str, MeasuredRival | MissingRival]:
    """The results of the rivals by name, then the reason of each one that is missing."""
    described: dict[str, MeasuredRival | MissingRival] = {}
    for rival in rivals:
        described[rival.names[0]] = MeasuredRival(**result(rival.names[0]), note=rival.note)
    for name, note in missing.items():
        described[name] = MissingRival(note=note)
    return described


def _describe_protocol(
    shop: Shop, split: Split, arrays: SamplerArrays, groups: Groups, contract: Contract
) -> ProtocolRecord:
    return {
        "queries": len(groups.hidden),
        "test_from": int(shop.times[split.test]) if split.test < shop.n_baskets else None,
        "ranked_items": len(arrays.popularity.order),
        "candidates": contract.candidates,
        "known_users": int(groups.named.sum()),
        "note": NOTE,
    }


def _limit_queries(settings: Settings, queries: int) -> Settings:
    """Lower the number of queries, and that over the whole catalog to a sixteenth, which takes as long."""
    chosen = settings.evaluate
    limits = {
        "queries": min(chosen.queries, queries),
        "full_catalog": min(chosen.full_catalog, queries // 16),
    }
    return settings.model_copy(update={"evaluate": chosen.model_copy(update=limits)})
