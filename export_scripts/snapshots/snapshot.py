"""Makes the sampler's arrays as they would have been at a moment, counted and learned from what came before.

Training, evaluation and the release each call `snapshot` with an end of their own. Therefore no count has
seen the baskets that its queries come from.
"""

import json
from pathlib import Path
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import (
    Categories,
    Clock,
    Cold,
    Neighbours,
    Partners,
    Popularity,
    Prior,
    SamplerArrays,
    Stores,
    save_arrays,
)
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.ids import Ids
from ensemble.candidate_sampler.nearest import About, Nearest, RecallError
from ensemble.candidate_sampler.sampler import CandidateSampler, with_users_by_bytes
from export_scripts.durations import step
from export_scripts.receipts.shop import Shop
from export_scripts.settings import SamplerSettings, Settings
from export_scripts.snapshots import counts, stores
from export_scripts.snapshots.partials import PartialCounts
from export_scripts.snapshots.partners import strongest
from export_scripts.snapshots.portable import PortableSampler
from export_scripts.snapshots.retrieval.tower import TrainedTower
from export_scripts.snapshots.retrieval.training import continue_tower, train_tower
from operations.errors import CestaError
from operations.records.contract import Contract

# Weights by which the best C candidates are chosen until training fits them: habits of the user, items that
# go with the basket, and a little popularity.
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
    shop: Shop,
    end: int,
    settings: Settings,
    prior: NDArray[np.float32] | None = None,
    partials: PartialCounts | None = None,
    tower: TrainedTower | None = None,
) -> SamplerArrays:
    """Return arrays with counts and a tower made from the baskets before ``end``.

    An earlier ``tower`` is trained on to ``end``; without one, a new tower is trained.

    Histories reach to the end of the data, because a query sees only what lies strictly before its moment.
    Pairs that ``partials`` keep are not counted again.
    """
    partials = partials or PartialCounts(shop, settings.sampler)
    counted = _count(shop, end, settings, partials)
    of_item = counted["categories"].of_item
    trained = (
        continue_tower(tower, shop, end, settings) if tower else train_tower(shop, end, of_item, settings)
    )
    return SamplerArrays(
        **counted,
        item_ids=Ids.pack([i.encode() for i in shop.catalog["item_id"]]),
        user_ids=Ids.pack([i.encode() for i in shop.user_ids]),
        histories=partials.histories(settings.sampler.history_baskets),
        store_ids=stores.ids(shop),
        retrieval=trained.vectors(),
        clock=Clock(np.array(shop.times[-1] + 1), np.array(shop.day, np.float32)),
        prior=Prior(untrained_prior() if prior is None else prior),
    )


def recount(
    shop: Shop, arrays: SamplerArrays, end: int, settings: Settings, partials: PartialCounts | None = None
) -> SamplerArrays:
    """Return ``arrays`` with counts from the baskets before ``end``; the tower stays as it is."""
    partials = partials or PartialCounts(shop, settings.sampler)
    return arrays._replace(**_count(shop, end, settings, partials))


class _Counted(TypedDict):
    """The arrays that are counted."""

    neighbours: Partners
    popularity: Popularity
    categories: Categories
    category_names: Ids
    category_pairs: Neighbours
    cold: Cold
    stores: Stores


@step("counts")
def _count(shop: Shop, end: int, chosen: Settings, partials: PartialCounts) -> _Counted:
    settings = chosen.sampler
    categories, names = counts.categories(shop, end)
    pairs, of_categories = partials.pairs(end), partials.category_pairs(end)
    support, sizes = counts.support(shop, end), (settings.partners, settings.shrinkage)
    return {
        "neighbours": counts.weighted(pairs, strongest(pairs, support, settings.min_support, *sizes)),
        "popularity": counts.popularity(shop, end, settings.min_support),
        "categories": categories,
        "category_names": names,
        "category_pairs": strongest(of_categories, of_categories.alone, 1, *sizes),
        "cold": cold(shop, end, categories, settings),
        "stores": stores.count(shop, end, chosen.stores),
    }


def category_pairs(shop: Shop, end: int, categories: Categories, settings: SamplerSettings) -> Neighbours:
    """Return the partners of the finest categories, all counted from the baskets before ``end``."""
    return counts.category_pairs(
        shop,
        end,
        categories.finest(),
        len(categories.members_offsets) - 1,
        settings.partners,
        settings.shrinkage,
        settings.largest_basket,
    )


def cold(shop: Shop, end: int, categories: Categories, settings: SamplerSettings) -> Cold:
    """Return the items that hardly sold before ``end``, grouped by their categories."""
    return counts.cold(shop, end, settings.min_support, categories.of_item, settings.cold_per_content)


def untrained_prior() -> NDArray[np.float32]:
    """Return (F,) the weights of UNTRAINED_PRIOR in the order of the features."""
    return np.array([UNTRAINED_PRIOR.get(name, 0.0) for name in FEATURES], np.float32)


def recommendable(arrays: SamplerArrays) -> NDArray[np.bool_]:
    """Mark the items (items,) with at least ``min_support`` baskets."""
    return _mark_ordered(arrays.popularity)


def _mark_ordered(popularity: Popularity) -> NDArray[np.bool_]:
    marks = np.zeros(len(popularity.score), bool)
    marks[popularity.order] = True
    return marks


def with_content(arrays: SamplerArrays) -> NDArray[np.bool_]:
    """Mark the items (items,) that have a category: the tower can tell them apart without sales."""
    marks: NDArray[np.bool_] = np.count_nonzero(arrays.categories.of_item, axis=1) > 0
    return marks


def limits(settings: Settings, contract: Contract) -> dict[str, int]:
    """Return the content of ``limits.json``: how much each source may propose, and the contract's sizes."""
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
    return {name: getattr(settings.sampler, name) for name in names} | {
        "capacity": contract.candidates,
        "basket_slots": contract.basket_slots,
    }


def sampler_of(
    arrays: SamplerArrays, settings: Settings, contract: Contract, **wider: int
) -> CandidateSampler:
    """Return a sampler over a snapshot in memory; limits in ``wider`` replace those of the settings.

    Raises CestaError if the recall of an index is too low.
    """
    try:
        return PortableSampler(arrays, limits(settings, contract) | wider)
    except RecallError as error:
        raise CestaError(str(error)) from None


def save_snapshot(
    arrays: SamplerArrays, settings: Settings, contract: Contract, folder: Path
) -> dict[str, About]:
    """Write arrays, limits and indexes into ``folder``, which must exist; return facts about the indexes.

    Raises CestaError if the recall of an index is too low.
    """
    sizes = limits(settings, contract)
    save_arrays(with_users_by_bytes(arrays), folder)
    (folder / "limits.json").write_text(json.dumps(sizes, indent=2) + "\n")
    try:
        nearest, about = Nearest.build(arrays, sizes)
    except RecallError as error:
        raise CestaError(str(error)) from None
    nearest.save(folder)
    return about
