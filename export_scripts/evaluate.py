"""Measure what would be served on the test period, beside rankers that need no training (Protocol W).

Counts and tower stop where the test period begins; the scorer has seen neither. The chain measured is that of
``ensemble/reference.py``: the sampler's arrays and the ONNX graph, as Triton runs them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.query import Query
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import SOURCES
from ensemble.reference import Reference
from export_scripts import baselines, counts, manifest
from export_scripts.atomic import write_file
from export_scripts.checkpoint import load_checkpoint
from export_scripts.contract import read_contract
from export_scripts.graph import build_graph, fold
from export_scripts.leaks import check_leaks
from export_scripts.metrics import MISSED, Ranks, rank_in_scores, ranks_in_lists, summary
from export_scripts.progress import Progress
from export_scripts.settings import Settings
from export_scripts.shop import Shop, load_shop
from export_scripts.snapshot import limits, recommendable, snapshot
from export_scripts.splits import HiddenItems, as_queries, hide_items, split_by_time

BATCH = 64
BASKET_SIZES = {"1": (1, 1), "2-4": (2, 4), "5-9": (5, 9), "10+": (10, 2**31)}
SUPPORTS = {"5-19": (5, 19), "20-99": (20, 99), "100+": (100, 2**31)}


@dataclass(frozen=True)
class Measured:
    """Ranks (n,) of the hidden items, and who found them (n,)."""

    known: Ranks
    unknown: Ranks  # the same baskets with the user blanked
    found_by: NDArray[np.int32]  # source bits of the hidden item among the candidates, 0: not a candidate
    baselines: dict[str, Ranks]


def evaluate(settings: Settings, data: Path, checkpoint: Path, metrics: Path) -> Path:
    """Write ``metrics`` (json) for the checkpoint on the test period of the shop in ``data``."""
    shop, contract = load_shop(data), read_contract()
    model, prior = load_checkpoint(checkpoint, shop, settings)
    split = split_by_time(shop, settings.splits)
    arrays = snapshot(shop, split.test, settings, prior)
    check_leaks(shop, arrays, split.test, settings)
    graph = build_graph(fold(model), shop.catalog["item_id"].tolist(), contract).SerializeToString()
    reference = Reference(CandidateSampler(arrays, limits(settings, contract)), graph)
    rng = np.random.default_rng(settings.train.seed)
    known, most = recommendable(arrays), settings.splits.hidden_per_basket
    hidden = hide_items(shop, split.test, split.end, known, most, rng).sample(settings.evaluate.queries, rng)
    measured = _measure(shop, arrays, reference, hidden)
    # The digest is for export, which takes no other checkpoint's metrics.
    report = {"checkpoint": manifest.sha256(checkpoint)}
    report |= _report(shop, arrays, hidden, measured, split.test, settings)
    write_file(metrics, (json.dumps(report, indent=2) + "\n").encode())
    return metrics


def _measure(shop: Shop, arrays: SamplerArrays, reference: Reference, hidden: HiddenItems) -> Measured:
    n = len(hidden)
    ids = shop.catalog["item_id"].to_numpy(object)
    ranks = {True: np.full(n, MISSED, np.float64), False: np.full(n, MISSED, np.float64)}
    found_by = np.zeros(n, np.int32)
    others = {name: np.zeros(n) for name in baselines.RANKERS}
    pool = recommendable(arrays)
    with Progress("evaluate", n) as progress:
        for start, batch in zip(range(0, n, BATCH), hidden.batches(BATCH), strict=True):
            part = slice(start, start + len(batch))
            for known_user in (True, False):
                queries = as_queries(shop, batch, known_user)
                candidates = reference.sampler.sample(queries)
                answers = reference.score(queries, candidates)
                ranks[known_user][part] = ranks_in_lists(answers.item_ids, ids[batch.items])
                if known_user:
                    at = candidates.rows == batch.items[:, None]
                    found_by[part] = np.where(at, candidates.sources, 0).sum(1)
            for i, query in enumerate(as_queries(shop, batch)):
                for name, ranker in baselines.RANKERS.items():
                    others[name][start + i] = _rank(ranker(arrays, query), query, batch.items[i], pool)
            progress.advance(len(batch))
    return Measured(ranks[True], ranks[False], found_by, others)


def _rank(scores: baselines.Scores, query: Query, item: np.int32, pool: NDArray[np.bool_]) -> float:
    """Rank among all recommendable items that are not in the basket."""
    scores = np.where(pool, scores, -np.inf)
    scores[query.basket] = -np.inf
    return rank_in_scores(scores, item)


def _report(
    shop: Shop, arrays: SamplerArrays, hidden: HiddenItems, m: Measured, test: int, settings: Settings
) -> dict[str, Any]:
    users = shop.users[hidden.baskets].astype(np.int64)
    # Users nobody knows are resampled by basket.
    owners = np.where(users > 0, users, shop.n_users + hidden.baskets)
    repeat = bought_before(arrays, shop, hidden)
    sizes = np.diff(shop.offsets)[hidden.baskets] - 1
    support = counts.support(shop, test)[hidden.items]
    rng = np.random.default_rng(settings.train.seed)

    def of(ranks: Ranks, keep: NDArray[np.bool_] | slice = slice(None)) -> dict[str, Any]:
        return summary(ranks[keep], owners[keep], settings.evaluate.bootstrap, rng)

    def splits(ranks: Ranks) -> dict[str, Any]:
        return {"known": of(ranks), "repeat": of(ranks, repeat), "explore": of(ranks, ~repeat)}

    def within(values: NDArray[np.int64], bounds: dict[str, tuple[int, int]]) -> dict[str, Any]:
        return {name: of(m.known, (values >= low) & (values <= high)) for name, (low, high) in bounds.items()}

    return {
        **splits(m.known),
        "unknown": of(m.unknown),
        "by_basket_size": within(sizes, BASKET_SIZES),
        "by_support": within(support, SUPPORTS),
        "candidates": _recall(m.found_by, repeat),
        "baselines": {name: splits(ranks) for name, ranks in m.baselines.items()},
        "protocol": {
            "queries": len(hidden),
            "test_from": int(shop.times[test]) if test < shop.n_baskets else None,
            "ranked_items": len(arrays.popularity.order),
            "note": "one item of a test basket hidden, all recommendable items ranked; our list ends at K",
        },
    }


def bought_before(arrays: SamplerArrays, shop: Shop, hidden: HiddenItems) -> NDArray[np.bool_]:
    """(n,) has the basket's user bought the hidden item strictly before the basket?"""
    found = [
        baselines.personal_frequency(arrays, query)[item] >= 1
        for query, item in zip(as_queries(shop, hidden), hidden.items.tolist(), strict=True)
    ]
    return np.array(found, bool)


def _recall(found_by: NDArray[np.int32], repeat: NDArray[np.bool_]) -> dict[str, Any]:
    """Share of hidden items among the candidates: in all, of each source, and of each source alone."""

    def share(hits: NDArray[np.bool_]) -> float | None:
        return round(float(hits.mean()), 4) if len(hits) else None

    found = found_by > 0
    return {
        "recall": share(found),
        "repeat": share(found[repeat]),
        "explore": share(found[~repeat]),
        "by_source": {
            name: {"recall": share(found_by & bit > 0), "alone": share(found_by == bit)}
            for name, bit in SOURCES.items()
        },
    }


def print_report(metrics: Path, console: Console) -> None:
    """The table of a metrics file: ours against the baselines, then where the candidates come from."""
    report = json.loads(metrics.read_text())
    title = f"Protocol W, test period, {report['protocol']['queries']:,} queries"
    table = Table(title=title, title_justify="left")
    for name in ("ranker", "HR@10", "95 %", "NDCG@10", "MRR", "HR@10 repeat", "HR@10 explore"):
        table.add_column(name, justify="left" if name == "ranker" else "right")
    for name, groups in report["baselines"].items():
        table.add_row(*_cells(name, groups))
    table.add_section()
    table.add_row(*_cells("cesta, known user", report), style="bold")
    table.add_row(*_cells("cesta, unknown user", {"known": report["unknown"]}))
    console.print(table)
    recall = report["candidates"]
    console.print(
        f"sampler recall {_number(recall['recall'])} (repeat {_number(recall['repeat'])}, explore "
        f"{_number(recall['explore'])}); by source: "
        + ", ".join(f"{name} {_number(v['recall'])}" for name, v in recall["by_source"].items())
    )


def _cells(name: str, groups: dict[str, Any]) -> list[str]:
    known = groups["known"]
    interval = "-".join(map(_number, known["interval"]["hr_at_10"])) if known["interval"] else ""
    return [
        name,
        _number(known["hr_at_10"]),
        interval,
        _number(known["ndcg_at_10"]),
        _number(known["mrr"]),
        *(_number(groups[split]["hr_at_10"]) if split in groups else "" for split in ("repeat", "explore")),
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}".lstrip("0")


if __name__ == "__main__":
    from export_scripts.cli import main

    main("evaluate")
