"""What the sampler costs: which hidden items it does not find, and what the scorer would do without it."""

from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import SamplerArrays
from ensemble.candidate_sampler.sampler import CandidateSampler
from ensemble.candidate_sampler.sources import SIMILAR, SOURCES, USUAL
from export_scripts.quality.metrics import MISSED, NAMES, Ranks, gains
from export_scripts.quality.questions import BATCH, Questions
from export_scripts.quality.rankers import Served
from export_scripts.scorer.ncf import NCF
from export_scripts.settings import Settings
from export_scripts.snapshots.snapshot import recommendable, sampler_of
from export_scripts.snapshots.splits import HiddenItems, as_queries
from operations.records.contract import Contract

RECALL_AT: Final = (100, 250, 500, 600, 1000)
CATALOG_BATCH: Final = 2  # a query's features of the whole catalog are 2 MB, what the scorer makes of them 15
BEYOND: Final = 1_024  # room for what a user bought before it fell out of what can be recommended

Bools = NDArray[np.bool_]


def recall(
    questions: Questions, arrays: SamplerArrays, settings: Settings, contract: Contract, repeat: Bools
) -> dict[str, Any]:
    """Share of hidden items among the first n candidates by the prior, for C and the sizes in RECALL_AT.

    By source: the share that it proposes, and ``alone`` what no other one does. ``repeat`` (n,) as in Groups.
    """
    c = contract.candidates
    place, sources = _by_prior(questions, arrays, settings, contract, max(c, *RECALL_AT))
    groups = {"recall": np.ones(len(repeat), bool), "repeat": repeat, "explore": ~repeat}

    def shares(hits: Bools) -> dict[str, float | None]:
        return {name: _share(hits[group]) for name, group in groups.items()}

    def at(sizes: tuple[int, ...], proposed: Bools) -> dict[str, Any]:
        return {str(n): shares(proposed & (place < n)) for n in sizes}

    found = place < c
    return {
        **shares(found),
        "at": at(RECALL_AT, sources > 0),
        "by_source": {
            name: {
                **shares(found & (sources & bit > 0)),
                "alone": shares(found & (sources == bit)),
                "at": at(RECALL_AT, sources & bit > 0),
            }
            for name, bit in SOURCES.items()
        },
    }


def _by_prior(
    questions: Questions, arrays: SamplerArrays, settings: Settings, contract: Contract, most: int
) -> tuple[Ranks, NDArray[np.int32]]:
    """Place (n,) of the hidden item among ``most`` candidates in the prior's order, and its source bits.

    The sampler keeps the cold items that are near by content and the best n by the prior, so a longer list
    holds all shorter ones.
    """
    cold = ~recommendable(arrays)
    sampler = sampler_of(arrays, settings, replace(contract, candidates=most))
    places, sources = [np.zeros(0)], [np.zeros(0, np.int32)]
    for hidden in questions.hidden.batches(BATCH):
        found = sampler.sample(as_queries(questions.shop, hidden))
        scores = np.where(found.rows > 0, found.features @ arrays.prior.weights, -np.inf)
        near = (found.sources & (SIMILAR | USUAL) == SIMILAR) & cold[found.rows]
        scores[near] = np.inf  # first in every list
        hit = found.rows == hidden.items[:, None]
        own = np.where(hit, scores, -np.inf).max(1, keepdims=True)
        places.append(np.where(hit.any(1), (scores > own).sum(1), MISSED))
        sources.append(np.where(hit, found.sources, 0).sum(1, dtype=np.int32))
    return np.concatenate(places), np.concatenate(sources)


def full_catalog(
    questions: Questions,
    arrays: SamplerArrays,
    model: NCF,
    settings: Settings,
    contract: Contract,
    ours: dict[str, Ranks],
) -> dict[str, Any]:
    """The same scorer over everything that can be recommended, on some of the queries.

    ``ours`` holds the ranks end to end of all queries, by name ("known", "unknown"). HR@10 and NDCG@10 are
    those over the catalog, ``sampled_…`` with the sampler; ``loss`` and ``ndcg_loss`` the shares it costs.
    """
    n = len(questions.hidden)
    chosen = np.sort(
        np.random.default_rng(settings.train.seed).permutation(n)[: settings.evaluate.full_catalog]
    )
    everything = _everything(arrays, settings, contract)
    item_ids = questions.shop.catalog["item_id"].tolist()
    scorer = Served(model, item_ids, everything, contract, contract.answers)
    hidden = HiddenItems(questions.hidden.baskets[chosen], questions.hidden.items[chosen])
    some = Questions(questions.shop, hidden, everything)
    result: dict[str, Any] = {"queries": len(chosen)}
    for name, ranks in ours.items():
        whole = some.rank([scorer], name == "known", f"catalog {name}", CATALOG_BATCH)[Served.NAME].ranks
        result[name] = _compared(ranks[chosen], whole)
    return result


def _everything(arrays: SamplerArrays, settings: Settings, contract: Contract) -> CandidateSampler:
    """A sampler that fills up with best sellers until all of the pool are candidates."""
    pool, items = len(arrays.popularity.order), len(arrays.popularity.score)
    capacity = min(pool + BEYOND, max(items - 1, contract.answers))
    wide = replace(contract, candidates=capacity)
    return sampler_of(arrays, settings, wide, fill=pool, width=items)


def _compared(sampled: Ranks, whole: Ranks) -> dict[str, float | None]:
    ours, catalog = (dict(zip(NAMES, gains(ranks).T, strict=True)) for ranks in (sampled, whole))
    found: dict[str, float | None] = {}
    for name, loss in {"hr_at_10": "loss", "ndcg_at_10": "ndcg_loss"}.items():
        found[name], found[f"sampled_{name}"] = _share(catalog[name]), _share(ours[name])
        all_of_it = catalog[name].sum()
        found[loss] = round(1 - float(ours[name].sum() / all_of_it), 4) if all_of_it else None
    return found


def _share(hits: Bools | NDArray[np.float64]) -> float | None:
    return round(float(hits.mean()), 4) if len(hits) else None
