"""Measure what would be served on the test period, beside rankers to beat (Protocol W).

Counts and tower stop where the test period begins; the scorer has seen neither. The chain measured is that of
``ensemble/reference.py``: the sampler's arrays and the ONNX graph, as Triton runs them.
"""

import json
from pathlib import Path
from typing import Any, Final

import numpy as np

from ensemble.candidate_sampler.arrays import SamplerArrays
from export_scripts.quality import baselines, report
from export_scripts.quality.cold import cold_items, hide_cold
from export_scripts.quality.groups import Groups
from export_scripts.quality.losses import full_catalog, recall
from export_scripts.quality.metrics import calibration
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import Ranker, Served, Untrained
from export_scripts.quality.rivals import train_rivals
from export_scripts.receipts.shop import Shop, load_shop
from export_scripts.scorer.checkpoint import load_checkpoint, load_curve
from export_scripts.settings import Settings
from export_scripts.snapshots.leaks import check_leaks
from export_scripts.snapshots.snapshot import recommendable, sampler_of, snapshot
from export_scripts.snapshots.splits import HiddenItems, Split, hide_items, split_by_time
from operations.records import manifest
from operations.records.atomic import write_file
from operations.records.contract import Contract, read_contract

BASKET_SIZES: Final = {"1": (1, 1), "2-4": (2, 4), "5-9": (5, 9), "10+": (10, 2**31)}
SUPPORTS: Final = {"5-19": (5, 19), "20-99": (20, 99), "100+": (100, 2**31)}  # baskets before the period
NOTE: Final = (
    "One item of a test basket is hidden and the rest asks; all recommendable items are ranked. Ours ranks "
    "the sampler's candidates: HR and NDCG are those of the served list, MRR is that of all candidates in "
    "the scorer's order, and an item that is no candidate counts 0."
)


def evaluate(
    settings: Settings,
    data: Path,
    checkpoint: Path,
    metrics: Path,
    rivals: bool = False,
    most: int | None = None,
) -> Path:
    """Write ``metrics`` (json), and a report for people beside it, for the checkpoint on the test period.

    With ``rivals``, models of other libraries are trained and measured too, which takes far longer. ``most``
    lowers evaluate.queries.
    """
    if most is not None:
        settings = _with_queries(settings, most)
    shop, contract = load_shop(data), read_contract()
    model, prior = load_checkpoint(checkpoint, shop, settings)
    split = split_by_time(shop, settings.splits)
    arrays = snapshot(shop, split.test, settings, prior)
    check_leaks(shop, arrays, split.test, settings)
    rng = np.random.default_rng(settings.train.seed)
    known, per_basket = recommendable(arrays), settings.splits.hidden_per_basket
    hidden = hide_items(shop, split.test, split.end, known, per_basket, rng)
    hidden = hidden.sample(settings.evaluate.queries, rng)
    cold = hide_cold(shop, arrays, split.test, split.end, settings, rng)
    questions = Questions(shop, hidden, sampler_of(arrays, settings, contract))
    served = Served(model, shop.catalog["item_id"].tolist(), questions.sampler, contract)
    others, missing = (
        train_rivals(shop, split, arrays, questions.sampler, settings, contract) if rivals else ([], {})
    )
    rankers: list[Ranker] = [served, Untrained(arrays), *others]
    users, nobody = questions.rank(rankers, True, "evaluate"), questions.rank(rankers, False, "no user")
    groups = Groups.of(shop, arrays, hidden, split.test, settings)
    ours, anonymous = users[Served.NAME], nobody[Served.NAME]

    def measured(name: str) -> dict[str, Any]:
        return groups.report(users[name], nobody[name])

    # The digest is for export, which takes no other checkpoint's metrics.
    found: dict[str, Any] = {
        "checkpoint": manifest.sha256(checkpoint),
        **measured(Served.NAME),
        "by_basket_size": groups.within(ours.ranks, groups.sizes, BASKET_SIZES),
        "by_support": groups.within(ours.ranks, groups.support[hidden.items], SUPPORTS),
        "cold": cold_items(shop, cold, served, questions.sampler, split.test, settings),
        "candidates": recall(questions, arrays, settings, contract, groups.repeat),
        "full_catalog": full_catalog(
            questions, arrays, model, settings, contract, {"known": ours.ranks, "unknown": anonymous.ranks}
        ),
        "curve": load_curve(checkpoint).epochs,
        "calibration": calibration(ours.chances, ours.ranks),
        "baselines": {name: measured(name) for name in baselines.RANKERS},
        "rivals": {rival.names[0]: measured(rival.names[0]) | {"note": rival.note} for rival in others}
        | {name: {"note": note} for name, note in missing.items()},
        "protocol": _protocol(shop, split, arrays, hidden, contract),
    }
    write_file(metrics, (json.dumps(found, indent=2) + "\n").encode())
    write_file(metrics.with_name(report.NAME), report.html(found).encode())
    return metrics


def _protocol(
    shop: Shop, split: Split, arrays: SamplerArrays, hidden: HiddenItems, contract: Contract
) -> dict[str, Any]:
    return {
        "queries": len(hidden),
        "test_from": int(shop.times[split.test]) if split.test < shop.n_baskets else None,
        "ranked_items": len(arrays.popularity.order),
        "candidates": contract.candidates,
        "note": NOTE,
    }


def _with_queries(settings: Settings, most: int) -> Settings:
    """At most so many queries, and a sixteenth of them over the whole catalog, which takes as long."""
    asked = settings.evaluate
    few = {"queries": min(asked.queries, most), "full_catalog": min(asked.full_catalog, most // 16)}
    return settings.model_copy(update={"evaluate": asked.model_copy(update=few)})
