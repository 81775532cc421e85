"""The sampler's arrays as they would have stood at a moment: everything counted and learnt before it.

Training, evaluation and the release each use a snapshot of their own, made by this one function, so that no
count has seen the baskets it is asked about.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import (
    Categories,
    Clock,
    Cold,
    Ids,
    Neighbours,
    Prior,
    Retrieval,
    SamplerArrays,
    save_arrays,
)
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.nearest import About, Nearest, RecallError
from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.receipts.shop import Shop
from export_scripts.settings import SamplerSettings, Settings
from export_scripts.snapshots import counts
from export_scripts.snapshots.tower import train_tower
from operations.errors import CestaError
from operations.records.contract import Contract

# Which candidates stay when there are more than C, before training fits it: one's own habits, what goes with
# the basket, and a little of what everybody buys.
UNTRAINED_PRIOR = {
    "recency_60": 1.0,
    "last_purchase": 1.0,
    "overlap": 0.5,
    "cosine_max": 1.5,
    "probability_max": 1.5,
    "retrieval_user": 0.3,
    "retrieval_basket": 0.3,
    "popularity": 0.3,
}


def snapshot(
    shop: Shop, end: int, settings: Settings, prior: NDArray[np.float32] | None = None
) -> SamplerArrays:
    """Arrays whose counts and tower know the baskets before ``end``; histories reach to the end of the data.

    Histories may, because a query only sees what lies strictly before its own moment.
    """
    counted = _counted(shop, end, settings.sampler)
    known = np.zeros(shop.n_items, bool)
    known[counted["popularity"].order] = True
    return SamplerArrays(
        **counted,
        item_ids=Ids.pack([i.encode() for i in shop.catalog["item_id"]]),
        user_ids=Ids.pack([i.encode() for i in shop.user_ids]),
        histories=counts.histories(shop, shop.n_baskets, settings.sampler.history_baskets),
        retrieval=_tower(shop, end, known, counted["categories"].of_item, settings),
        clock=Clock(np.array(shop.times[-1] + 1), np.array(shop.day, np.float32)),
        prior=Prior(untrained_prior() if prior is None else prior),
    )


def recounted(shop: Shop, arrays: SamplerArrays, end: int, settings: Settings) -> SamplerArrays:
    """``arrays`` with counts that know the baskets before ``end``; the tower stays as it is."""
    return arrays._replace(**_counted(shop, end, settings.sampler))


def _counted(shop: Shop, end: int, s: SamplerSettings) -> dict[str, Any]:
    """The arrays that are counted, by name."""
    categories, names = counts.categories(shop, end)
    return {
        "neighbours": counts.cooccurrence(
            shop, end, s.min_support, s.partners, s.shrinkage, s.largest_basket
        ),
        "popularity": counts.popularity(shop, end, s.min_support),
        "categories": categories,
        "category_names": names,
        "category_pairs": category_pairs(shop, end, categories, s),
        "cold": cold(shop, end, categories, s),
    }


def category_pairs(shop: Shop, end: int, categories: Categories, s: SamplerSettings) -> Neighbours:
    """What the finest categories go with, before ``end``."""
    n = len(categories.members_offsets) - 1
    return counts.category_pairs(shop, end, categories.finest(), n, s.partners, s.shrinkage, s.largest_basket)


def cold(shop: Shop, end: int, categories: Categories, s: SamplerSettings) -> Cold:
    """What hardly sold before ``end``, by content."""
    return counts.cold(shop, end, s.min_support, categories.of_item, s.cold_per_content)


def untrained_prior() -> NDArray[np.float32]:
    """(F,): the weights of UNTRAINED_PRIOR in the order of the features."""
    return np.array([UNTRAINED_PRIOR.get(name, 0.0) for name in FEATURES], np.float32)


def recommendable(arrays: SamplerArrays) -> NDArray[np.bool_]:
    """(items,) items with enough support to be counted."""
    known = np.zeros(len(arrays.popularity.score), bool)
    known[arrays.popularity.order] = True
    return known


def with_content(arrays: SamplerArrays) -> NDArray[np.bool_]:
    """(items,) items that have a category: the tower tells them apart whatever their sales."""
    has: NDArray[np.bool_] = (arrays.categories.of_item > 0).any(1)
    return has


def limits(settings: Settings, contract: Contract) -> dict[str, int]:
    """What ``limits.json`` holds: the sources' shares and the contract's sizes."""
    s = settings.sampler
    names = (
        "similar",
        "popular",
        "per_category",
        "basket_categories",
        "fill",
        "cold",
        "width",
        "scan_up_to",
    )
    return {name: getattr(s, name) for name in names} | {
        "capacity": contract.candidates,
        "basket_slots": contract.basket_slots,
    }


def sampler_of(
    arrays: SamplerArrays, settings: Settings, contract: Contract, **wider: int
) -> CandidateSampler:
    """The sampler over a snapshot, in memory; ``wider`` limits replace those of the settings.

    Raises CestaError if an index finds too little.
    """
    try:
        return CandidateSampler(arrays, limits(settings, contract) | wider)
    except RecallError as error:
        raise CestaError(str(error)) from None


def save_snapshot(
    arrays: SamplerArrays, settings: Settings, contract: Contract, folder: Path
) -> dict[str, About]:
    """Write arrays, limits and indexes into ``folder``, which must exist; returns what the indexes are.

    Raises CestaError if an index finds too little.
    """
    sizes = limits(settings, contract)
    save_arrays(arrays, folder)
    (folder / "limits.json").write_text(json.dumps(sizes, indent=2) + "\n")
    try:
        nearest, about = Nearest.build(arrays, sizes)
    except RecallError as error:
        raise CestaError(str(error)) from None
    nearest.save(folder)
    return about


def _tower(
    shop: Shop, end: int, known: NDArray[np.bool_], of_item: NDArray[np.int32], settings: Settings
) -> Retrieval:
    return train_tower(shop, end, known, of_item, settings.retrieval, settings.train.seed)
