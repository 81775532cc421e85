"""Receipts of a shop small enough to work out by hand, and the sampler over them with an untrained tower."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ensemble.candidate_sampler.arrays import Clock, Prior, Retrieval, SamplerArrays
from ensemble.candidate_sampler.batch import Candidates
from ensemble.candidate_sampler.features import FEATURES
from ensemble.candidate_sampler.ids import Ids
from ensemble.candidate_sampler.sampler import CandidateSampler
from export_scripts.receipts.shop import BasketStores, Shop
from export_scripts.scorer.training_set import TrainingSet
from export_scripts.settings import load_settings
from export_scripts.snapshots import counts
from export_scripts.snapshots import stores as in_stores

DAY = 86_400
Receipt = tuple[int, float, Sequence[int]]  # user row, day, item rows
STORES = load_settings().stores

LIMITS = {
    "capacity": 20,
    "basket_slots": 200,
    "similar": 1,
    "popular": 1,
    "per_category": 1,
    "basket_categories": 10,
    "fill": 1,
    "cold": 0,
    "width": 4096,
    "scan_up_to": 50_000,
}


def shop_of(
    receipts: Sequence[Receipt],
    items: int,
    categories: Mapping[str, Sequence[str]] | None = None,
    users: int = 0,
) -> Shop:
    """A shop of the products 1 … `items`; `categories` are columns with a value for each of them."""
    ordered = sorted(receipts, key=lambda receipt: receipt[1])
    baskets = [sorted(set(rows)) for _, _, rows in ordered]
    catalog = pd.DataFrame({"item_id": ["", *(f"i{row:04d}" for row in range(1, items + 1))]})
    columns = {name: ["", *values] for name, values in (categories or {}).items()}
    users = max([users, *(user for user, _, _ in ordered)])
    return Shop(
        offsets=np.cumsum([0, *map(len, baskets)]),
        items=np.array([row for basket in baskets for row in basket], np.int32),
        users=np.array([user for user, _, _ in ordered], np.int32),
        times=np.array([round(day * DAY) for _, day, _ in ordered]),
        catalog=catalog.assign(name=catalog["item_id"], **columns),
        user_ids=["", *(f"u{row}" for row in range(1, users + 1))],
        category_columns=list(columns),
        day=float(DAY),
        fingerprint="",
        first="",
        last="",
    )


def in_stores_of(shop: Shop, stores: Sequence[int], regions: Sequence[int] = ()) -> Shop:
    """The shop with the store row of each basket; `regions` are those of the stores 1, 2, …"""
    count = max([*stores, len(regions)])
    of_store = np.array([0, *regions] if regions else [0] * (count + 1), np.int32)
    ids = ["", *(f"s{row}" for row in range(1, count + 1))]
    return replace(shop, stores=BasketStores(np.array(stores, np.int32), ids, of_store))


def arrays_of(
    shop: Shop,
    end: int | None = None,
    min_support: int = 1,
    shrinkage: float = 0.0,
    retrieval: Retrieval | None = None,
    prior: Mapping[str, float] | None = None,
    cold_per_content: int = 3,
    stores: Mapping[str, object] | None = None,
) -> SamplerArrays:
    """Arrays counted as a snapshot counts them. Tower and prior are zeros unless given.

    `stores` are settings of [stores].
    """
    end = shop.n_baskets if end is None else end
    categories, names = counts.categories(shop, end)
    return SamplerArrays(
        item_ids=Ids.pack([i.encode() for i in shop.catalog["item_id"]]),
        user_ids=Ids.pack([i.encode() for i in shop.user_ids]),
        category_names=names,
        histories=counts.histories(shop, shop.n_baskets, 400),
        neighbours=counts.cooccurrence(shop, end, min_support, 200, shrinkage, 1000),
        popularity=counts.popularity(shop, end, min_support),
        categories=categories,
        category_pairs=counts.category_pairs(
            shop, end, categories.finest(), len(categories.members_offsets) - 1, 200, shrinkage, 1000
        ),
        retrieval=retrieval or tower_of(shop),
        cold=counts.cold(shop, end, min_support, categories.of_item, cold_per_content),
        clock=Clock(np.array(shop.times[-1] + 1), np.array(shop.day, np.float32)),
        prior=Prior(np.array([(prior or {}).get(name, 0) for name in FEATURES], np.float32)),
        store_ids=in_stores.ids(shop),
        stores=in_stores.count(shop, end, STORES.model_copy(update=dict(stores or {}))),
    )


def tower_of(shop: Shop, rng: np.random.Generator | None = None, d: int = 2) -> Retrieval:
    """Vectors drawn by `rng`, or zeros."""

    def vectors(rows: int) -> NDArray[np.float32]:
        drawn = rng.normal(size=(rows, d)) if rng else np.zeros((rows, d))
        return drawn.astype(np.float32)

    return Retrieval(vectors(shop.n_users), vectors(shop.n_items), vectors(shop.n_items))


def sampler_of(arrays: SamplerArrays, threads: int = 1, **limits: int) -> CandidateSampler:
    return CandidateSampler(arrays, LIMITS | limits, threads=threads)


def proposed(candidates: Candidates, query: int = 0) -> dict[int, int]:
    """Row → source bits of one query's candidates."""
    rows, sources = candidates.rows[query].tolist(), candidates.sources[query].tolist()
    return {row: bits for row, bits in zip(rows, sources, strict=True) if row}


def features_of(candidates: Candidates, row: int, query: int = 0) -> dict[str, float]:
    """Name → value of one candidate's features."""
    (place,) = np.flatnonzero(candidates.rows[query] == row)
    return dict(zip(FEATURES, candidates.features[query, place].tolist(), strict=True))


def random_shop(rng: np.random.Generator, items: int = 300, users: int = 12, baskets: int = 250) -> Shop:
    """Baskets of 1 to 12 items with no pattern; a fifth of the items is never sold, user 0 is unknown."""
    receipts = [
        (
            int(rng.integers(users + 1)),
            float(day),
            rng.integers(1, items * 4 // 5, rng.integers(1, 13)).tolist(),
        )
        for day in np.sort(rng.random(baskets) * 200)
    ]
    broad = [f"d{row % 3}" for row in range(items)]
    fine = ["" if row % 10 == 0 else f"c{row % 20}" for row in range(items)]
    return shop_of(receipts, items, {"department": broad, "kind": fine}, users)


def no_queries(width: int = 600, slots: int = 200) -> TrainingSet:
    """A training set of a shop that is too small for one."""
    shapes = (
        ((), np.int32),
        ((slots,), np.int32),
        ((width,), np.int32),
        ((width, len(FEATURES)), np.float16),
        ((width,), np.float32),
        ((), np.int64),
    )
    return TrainingSet(*(np.zeros((0, *shape), kind) for shape, kind in shapes), n_queries=0)  # type: ignore[arg-type]
