"""Measure what the sampler loses: hidden items that are no candidates, and their effect on the metrics."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import SOURCES
from export_scripts.engines.interface import Engine
from export_scripts.quality.metrics import Ranks, gains
from export_scripts.quality.prior_places import NONE_PLACED, place_by_prior
from export_scripts.quality.questions import Questions
from export_scripts.quality.rankers import ServedRanker
from export_scripts.quality.results import CandidateShares, CatalogResult, FullCatalog, Shares
from export_scripts.quality.served import served_ranker
from export_scripts.scorer.ncf import NCF
from export_scripts.settings import Settings
from export_scripts.snapshots.snapshot import sampler_of
from export_scripts.snapshots.splits import HiddenItems
from operations.records.contract import Contract

RECALL_AT: Final = (100, 250, 500, 600, 1000)
CATALOG_BATCH: Final = 2  # a query over the whole catalog takes 2 MB of features and 15 MB in the scorer
BEYOND: Final = 1_024  # room for items of a user's history that can no longer be recommended
Bools = NDArray[np.bool_]


def measure_recall(
    questions: Questions,
    arrays: SamplerArrays,
    settings: Settings,
    contract: Contract,
    repeat: Bools,
    engine: Engine,
) -> CandidateShares:
    """The share of hidden items among the first n candidates by the prior, for C and the sizes in RECALL_AT.

    For each source also the share that it proposes, and the share that no other source proposes (``alone``).
    ``repeat`` (n,) is that of Groups.
    """
    c = contract.candidates
    longest = replace(contract, candidates=max(c, *RECALL_AT))
    longer = Questions(questions.shop, questions.hidden, sampler_of(arrays, settings, longest))
    parts = [NONE_PLACED, *engine.map(place_by_prior, longer.partitions(), longer)]
    places, sources = (np.concatenate(columns) for columns in zip(*parts, strict=True))

    def shares(hits: Bools) -> Shares:
        return {"recall": _share(hits), "repeat": _share(hits[repeat]), "explore": _share(hits[~repeat])}

    def at(sizes: tuple[int, ...], proposed: Bools) -> dict[str, Shares]:
        return {str(n): shares(proposed & (places < n)) for n in sizes}

    hits = places < c
    return {
        **shares(hits),
        "at": at(RECALL_AT, sources > 0),
        "by_source": {
            name: {
                **shares(hits & (sources & bit > 0)),
                "alone": shares(hits & (sources == bit)),
                "at": at(RECALL_AT, sources & bit > 0),
            }
            for name, bit in SOURCES.items()
        },
    }


def measure_full_catalog(
    questions: Questions,
    arrays: SamplerArrays,
    model: NCF,
    settings: Settings,
    contract: Contract,
    known: Ranks,
    unknown: Ranks,
    engine: Engine,
) -> FullCatalog:
    """Rank the whole catalog with the same scorer for a sample of the queries, and compare with the sampler.

    ``known`` and ``unknown`` (n,) are the ranks of all queries with the sampler, with their users and
    without. HR@10 and NDCG@10 are those over the catalog; the keys ``sampled_…`` those with the sampler;
    ``loss`` and ``ndcg_loss`` the shares that the sampler loses.
    """
    n = len(questions.hidden)
    chosen = np.sort(
        np.random.default_rng(settings.train.seed).permutation(n)[: settings.evaluate.full_catalog]
    )
    sampler = _whole_catalog_sampler(arrays, settings, contract)
    item_ids = questions.shop.catalog["item_id"].tolist()
    ranker = served_ranker(model, item_ids, sampler, contract, contract.answers)
    hidden = HiddenItems(questions.hidden.baskets[chosen], questions.hidden.items[chosen])
    sample = Questions(questions.shop, hidden, sampler, [ranker])

    def compare(sampled: Ranks, known_user: bool, what: str) -> CatalogResult:
        whole = sample.rank(engine, known_user, what, CATALOG_BATCH)[ServedRanker.NAME].ranks
        return _compare(sampled[chosen], whole)

    return {
        "queries": len(chosen),
        "known": compare(known, True, "catalog known"),
        "unknown": compare(unknown, False, "catalog unknown"),
    }


def _whole_catalog_sampler(arrays: SamplerArrays, settings: Settings, contract: Contract) -> CandidateSampler:
    """A sampler whose lists are filled up with best sellers until they hold the whole pool."""
    pool, items = len(arrays.popularity.order), len(arrays.popularity.score)
    capacity = min(pool + BEYOND, max(items - 1, contract.answers))
    wide = replace(contract, candidates=capacity)
    return sampler_of(arrays, settings, wide, fill=pool, width=items)


def _compare(sampled: Ranks, whole: Ranks) -> CatalogResult:
    sampled_hr, sampled_ndcg, _ = gains(sampled).T
    hr, ndcg, _ = gains(whole).T
    return {
        "hr_at_10": _share(hr),
        "sampled_hr_at_10": _share(sampled_hr),
        "loss": _loss(sampled_hr, hr),
        "ndcg_at_10": _share(ndcg),
        "sampled_ndcg_at_10": _share(sampled_ndcg),
        "ndcg_loss": _loss(sampled_ndcg, ndcg),
    }


def _loss(sampled: NDArray[np.float64], whole: NDArray[np.float64]) -> float | None:
    """The share of the catalog's gain that the candidates lack."""
    total = whole.sum()
    return round(1 - float(sampled.sum() / total), 4) if total else None


def _share(hits: Bools | NDArray[np.float64]) -> float | None:
    return round(float(hits.mean()), 4) if len(hits) else None
